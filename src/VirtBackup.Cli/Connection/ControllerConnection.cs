using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Connection;

/// <summary>The controller, called with an operator's certificate over TLS in which both sides prove themselves.</summary>
internal sealed class ControllerConnection : IDisposable
{
    // A host with much to do takes seconds to shake hands; an address where nobody listens refuses at once all the same.
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(30);

    private readonly X509Certificate2 _certificate;
    private readonly X509Certificate2 _root;
    private readonly GrpcChannel _channel;
    private readonly CredentialFolder _folder;
    private ChainVerdict? _refusal;

    private ControllerConnection(CredentialFolder folder, TimeProvider time)
    {
        _folder = folder;
        Address = folder.ReadController();
        _certificate = folder.ReadCertificate();
        _root = folder.ReadRoot();
        Time = time;
        var handler = new SocketsHttpHandler
        {
            ConnectTimeout = ConnectTimeout,
            // The controller is on the operator's own network: a proxy for the web is not the way to it.
            UseProxy = false,
            KeepAlivePingDelay = TimeSpan.FromSeconds(30),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(15),
            SslOptions = new SslClientAuthenticationOptions
            {
                ClientCertificates = [_certificate],
                LocalCertificateSelectionCallback = (_, _, _, _, _) => _certificate,
                RemoteCertificateValidationCallback = new ChainPolicy(_root, time).ServerValidation(refused: verdict => _refusal = verdict),
                CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            },
        };
        _channel = GrpcChannel.ForAddress(ControllerAddress.ToUri(Address), new GrpcChannelOptions
        {
            HttpHandler = handler,
            DisposeHttpClient = true,
            MaxReceiveMessageSize = 64 << 20,
        });
        Admin = new AdminService.AdminServiceClient(_channel);
        Migrations = new MigrationService.MigrationServiceClient(_channel);
        Retention = new RetentionService.RetentionServiceClient(_channel);
        Groups = new GroupService.GroupServiceClient(_channel);
        Recovery = new RecoveryService.RecoveryServiceClient(_channel);
        Replication = new ReplicationAdminService.ReplicationAdminServiceClient(_channel);
    }

    /// <summary>Host and port.</summary>
    public string Address { get; }

    public TimeProvider Time { get; }

    public AdminService.AdminServiceClient Admin { get; }

    public RetentionService.RetentionServiceClient Retention { get; }

    public RecoveryService.RecoveryServiceClient Recovery { get; }

    public MigrationService.MigrationServiceClient Migrations { get; }

    public GroupService.GroupServiceClient Groups { get; }

    public ReplicationAdminService.ReplicationAdminServiceClient Replication { get; }

    private string Peer => $"The controller at {Address}";

    public static ControllerConnection Open(CredentialFolder folder, TimeProvider time) => new(folder, time);

    /// <summary>One call; its failures become <see cref="CommandFault"/>s.</summary>
    /// <param name="next">The step to propose when the controller does not know or refuses what was asked for.</param>
    public async Task<T> CallAsync<T>(AsyncUnaryCall<T> call, CancellationToken cancellationToken, string? next = null)
    {
        try
        {
            return await GrpcCalls.UnaryAsync(call, Peer, cancellationToken);
        }
        catch (FaultException fault)
        {
            throw Explain(fault, next);
        }
    }

    /// <summary>All messages of a call that streams.</summary>
    public async IAsyncEnumerable<T> StreamAsync<T>(
        AsyncServerStreamingCall<T> call, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var messages = GrpcCalls.StreamAsync(call, Peer, cancellationToken).GetAsyncEnumerator(cancellationToken);
        await using (messages)
        {
            while (true)
            {
                try
                {
                    if (!await messages.MoveNextAsync())
                    {
                        yield break;
                    }
                }
                catch (FaultException fault)
                {
                    throw Explain(fault, null);
                }
                yield return messages.Current;
            }
        }
    }

    public void Dispose()
    {
        _channel.Dispose();
        _certificate.Dispose();
        _root.Dispose();
    }

    private CommandFault Explain(FaultException fault, string? next)
    {
        if (_refusal is { } verdict)
        {
            _refusal = null;
            return new CommandFault(ExitCode.Refused, $"The server at {Address} is not trusted. {verdict.Reason}",
                $"check the address in '{_folder.ControllerPath}', and that the credentials are of this installation", fault);
        }
        return fault.Reason switch
        {
            // The controller answered: what cannot be reached is something behind it.
            FaultReason.Unavailable when next is not null && FaultStatus.IsTold(fault) => new CommandFault(fault, next),
            FaultReason.Unavailable => new CommandFault(fault, $"check that the controller runs, and its address in '{_folder.ControllerPath}'"),
            FaultReason.Denied when fault.InnerException is RpcException { StatusCode: StatusCode.Unauthenticated } =>
                new CommandFault(
                    fault,
                    _certificate.NotAfter.ToUniversalTime() < Time.GetUtcNow()
                        ? $"on the controller's host, make new credentials: virtbackup controller credentials --operator-credentials DIR"
                        : $"check that the credentials in '{_folder.Path}' are valid and of this installation"),
            _ => new CommandFault(fault, next),
        };
    }
}
