using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Google.Protobuf;
using Grpc.Net.Client;
using VirtBackup.Cli.Connection;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Setup;

/// <summary>What an enrolled agent is.</summary>
internal sealed record EnrolledAgent(string Agent, string Controller, string Home, DateTimeOffset CertificateExpireTime);

/// <summary>
/// Makes this host an agent: keys, a certificate in exchange for a join token, and the controller's address, all in the
/// agent's home.
/// </summary>
internal sealed class AgentEnrollment(CliContext context, string home)
{
    public const string DefaultHome = "/var/lib/virtbackup-agent";

    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(30);

    private readonly string _home = Path.GetFullPath(home);

    private static ReadOnlySpan<byte> ProofPrefix => "virtbackup/1 enroll"u8;

    public async Task<EnrolledAgent> RunAsync(string tokenText, string? name, string? controller, CancellationToken cancellationToken)
    {
        using var token = ReadToken(tokenText);
        if (token.Expires <= context.Time.GetUtcNow())
        {
            throw new CommandFault(ExitCode.Refused, $"The join token expired {Output.Units.Time(token.Expires)}.", "virtbackup agent token");
        }
        var agentName = ChooseName(name, token);
        var controllers = controller is { Length: > 0 } ? [controller] : token.Details.Endpoints.Select(static e => new Uri(e).Authority).ToList();
        if (controllers.Count == 0)
        {
            throw CommandFault.Usage("The join token does not say where the controller is.", "give its address: --controller HOST:PORT");
        }
        CreateHome();
        using var keys = AgentKeyStore.LoadOrCreate(Path.Combine(_home, "identity"), context.Time);
        if (keys.Identity is { } present)
        {
            throw new CommandFault(
                ExitCode.Refused, $"This host is enrolled already, as agent '{present.Name}' (in '{_home}').",
                $"to enroll it anew, stop the agent and move '{Path.Combine(_home, "identity")}' away first");
        }
        var (response, root, address) = await EnrollAsync(controllers, token, tokenText.Trim(), agentName, keys, cancellationToken);
        using (root)
        {
            using var certificate = ReadCertificate(response);
            // The address first: an identity without a controller would look enrolled and never connect.
            OwnerFiles.Replace(Path.Combine(_home, "controller"), Encoding.UTF8.GetBytes(address + "\n"));
            keys.StoreCertificate([certificate, root]);
            return new EnrolledAgent(keys.Identity!.Name, address, _home, certificate.NotAfter.ToUniversalTime());
        }
    }

    /// <summary>Tries the addresses in their order, until one is reached.</summary>
    private async Task<(EnrollResponse Response, X509Certificate2 Root, string Address)> EnrollAsync(
        List<string> addresses, JoinToken token, string tokenText, string agentName, AgentKeyStore keys, CancellationToken cancellationToken)
    {
        var request = CreateRequest(tokenText, agentName, keys);
        for (var i = 0; ; i++)
        {
            try
            {
                var (response, root) = await CallAsync(addresses[i], token, request, cancellationToken);
                return (response, root, addresses[i]);
            }
            catch (CommandFault fault) when (fault.ExitCode == ExitCode.Unreachable && i < addresses.Count - 1)
            {
                context.Terminal.ErrorWriter.WriteLine(fault.Message);
            }
        }
    }

    private static EnrollRequest CreateRequest(string tokenText, string agentName, AgentKeyStore keys)
    {
        var signingRequest = keys.CreateSigningRequest();
        byte[] message = [.. ProofPrefix, .. Encoding.UTF8.GetBytes(agentName), .. signingRequest];
        return new EnrollRequest
        {
            JoinToken = tokenText,
            AgentName = agentName,
            CertificateSigningRequest = ByteString.CopyFrom(signingRequest),
            SigningPublicKey = ByteString.CopyFrom(keys.ExportSigningPublicKey()),
            SigningKeyProof = ByteString.CopyFrom(
                keys.SigningKey.SignData(message, HashAlgorithmName.SHA256, DSASignatureFormat.IeeeP1363FixedFieldConcatenation)),
        };
    }

    private async Task<(EnrollResponse Response, X509Certificate2 Root)> CallAsync(
        string address, JoinToken token, EnrollRequest request, CancellationToken cancellationToken)
    {
        ChainVerdict? refusal = null;
        using var pin = new JoinPin(token, context.Time);
        using var channel = GrpcChannel.ForAddress(ControllerAddress.ToUri(address), new GrpcChannelOptions
        {
            HttpHandler = new SocketsHttpHandler
            {
                ConnectTimeout = TimeSpan.FromSeconds(10),
                UseProxy = false,
                SslOptions = new SslClientAuthenticationOptions
                {
                    RemoteCertificateValidationCallback = pin.ServerValidation(refused: verdict => refusal = verdict),
                    CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                },
            },
            DisposeHttpClient = true,
        });
        try
        {
            var client = new AgentService.AgentServiceClient(channel);
            var deadline = context.Time.GetUtcNow().UtcDateTime + CallTimeout;
            var response = await GrpcCalls.UnaryAsync(
                client.EnrollAsync(request, deadline: deadline, cancellationToken: cancellationToken), $"The controller at {address}", cancellationToken);
            return (response, X509CertificateLoader.LoadCertificate(pin.Root!.RawDataMemory.Span));
        }
        catch (FaultException fault) when (refusal is not null)
        {
            throw new CommandFault(ExitCode.Refused, $"The server at {address} is not trusted. {refusal.Reason}", "check the address, or make a new join token", fault);
        }
        catch (FaultException fault)
        {
            throw new CommandFault(fault, fault.Reason switch
            {
                FaultReason.Unavailable => $"check that the controller runs and that {address} is reachable from this host",
                FaultReason.Denied => "make a new join token where the operator's credentials are: virtbackup agent token",
                FaultReason.AlreadyExists => $"choose another --name, or replace that agent with a token for exactly its name: virtbackup agent token --name {request.AgentName}",
                _ => null,
            });
        }
    }

    /// <summary>The issued certificate; the controller may send its root behind it, which the pin has proved already.</summary>
    private static X509Certificate2 ReadCertificate(EnrollResponse response)
    {
        var chain = new X509Certificate2Collection();
        try
        {
            chain.ImportFromPem(response.CertificateChain.ToStringUtf8());
        }
        catch (CryptographicException broken)
        {
            throw new CommandFault(ExitCode.Failed, "The controller answered with something that is not a certificate.", null, broken);
        }
        if (chain.Count == 0)
        {
            throw new CommandFault(ExitCode.Failed, "The controller answered without a certificate.");
        }
        foreach (var other in chain.Skip(1))
        {
            other.Dispose();
        }
        return chain[0];
    }

    private static JoinToken ReadToken(string text)
    {
        try
        {
            return JoinToken.Parse(text);
        }
        catch (FaultException fault)
        {
            throw new CommandFault(fault, "virtbackup agent token makes one, where the operator's credentials are");
        }
    }

    private static string ChooseName(string? asked, JoinToken token)
    {
        if (asked is { Length: > 0 })
        {
            return PeerNames.IsName(asked)
                ? asked
                : throw CommandFault.Usage($"'{asked}' is not a name for an agent: it has 1 to {PeerNames.NameLengthMax} characters of a-z, 0-9, '.' and '-'.");
        }
        var name = token.Details.Name ?? Dns.GetHostName().ToLowerInvariant();
        return PeerNames.IsName(name)
            ? name
            : throw CommandFault.Usage($"This host's name '{name}' does not do as a name for an agent.", "choose one: --name NAME");
    }

    private void CreateHome()
    {
        using var undo = new Undo();
        undo.CreateFolder(_home);
        undo.Keep();
    }
}
