using System.Collections.Frozen;
using Grpc.Core;
using Grpc.Core.Interceptors;
using Microsoft.Extensions.Logging;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Controller.Grpc;

/// <summary>
/// Stands in front of every call: who may call what is this table and nothing else; failures leave as gRPC statuses.
/// What is not expected leaves without details, and is logged.
/// </summary>
public sealed partial class CallGate(ChainPolicy chain, ILogger<CallGate> logger) : Interceptor
{
    private const string CallerKey = "virtbackup-caller";
    private const string Agent = "/virtbackup.agent.v1.AgentService/";
    private const string Store = "/virtbackup.store.v1.StoreService/";
    private const string Admin = "/virtbackup.admin.v1.AdminService/";
    private const string Retention = "/virtbackup.admin.v1.RetentionService/";
    private const string Recovery = "/virtbackup.admin.v1.RecoveryService/";
    private const string Migration = "/virtbackup.admin.v1.MigrationService/";
    private const string ReplicationAdmin = "/virtbackup.admin.v1.ReplicationAdminService/";
    private const string Replication = "/virtbackup.replication.v1.ReplicationService/";
    private const string Groups = "/virtbackup.admin.v1.GroupService/";

    /// <summary>Calls by service or full name, and the one role that may make them; null: anybody.</summary>
    private static readonly FrozenDictionary<string, PeerRole?> Roles = new Dictionary<string, PeerRole?>
    {
        [Agent + "Enroll"] = null,
        [Agent + "RenewCertificate"] = PeerRole.Agent,
        [Agent + "Connect"] = PeerRole.Agent,
        [Agent + "ReadTaskOptions"] = PeerRole.Agent,
        [Store] = PeerRole.Agent,
        [Admin] = PeerRole.Operator,
        [Retention] = PeerRole.Operator,
        [Recovery] = PeerRole.Operator,
        [Migration] = PeerRole.Operator,
        [Groups] = PeerRole.Operator,
        [ReplicationAdmin] = PeerRole.Operator,
        [Replication + "Join"] = null,
        [Replication] = PeerRole.Peer,
    }.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>The caller that was let in.</summary>
    public static Caller CallerOf(ServerCallContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return (Caller)context.UserState[CallerKey];
    }

    public override async Task<TResponse> UnaryServerHandler<TRequest, TResponse>(
        TRequest request, ServerCallContext context, UnaryServerMethod<TRequest, TResponse> continuation)
    {
        try
        {
            Admit(context);
            return await continuation(request, context);
        }
        catch (Exception failure)
        {
            throw ToRpc(failure, context);
        }
    }

    public override async Task ServerStreamingServerHandler<TRequest, TResponse>(
        TRequest request, IServerStreamWriter<TResponse> responseStream, ServerCallContext context, ServerStreamingServerMethod<TRequest, TResponse> continuation)
    {
        try
        {
            Admit(context);
            await continuation(request, responseStream, context);
        }
        catch (Exception failure)
        {
            throw ToRpc(failure, context);
        }
    }

    public override async Task DuplexStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream, IServerStreamWriter<TResponse> responseStream, ServerCallContext context,
        DuplexStreamingServerMethod<TRequest, TResponse> continuation)
    {
        try
        {
            Admit(context);
            await continuation(requestStream, responseStream, context);
        }
        catch (Exception failure)
        {
            throw ToRpc(failure, context);
        }
    }

    public override Task<TResponse> ClientStreamingServerHandler<TRequest, TResponse>(
        IAsyncStreamReader<TRequest> requestStream, ServerCallContext context, ClientStreamingServerMethod<TRequest, TResponse> continuation) =>
        throw new RpcException(new Status(StatusCode.Unimplemented, "There is no such call."));

    private void Admit(ServerCallContext context)
    {
        var service = context.Method[..(context.Method.LastIndexOf('/') + 1)];
        if (!Roles.TryGetValue(context.Method, out var role) && !Roles.TryGetValue(service, out role))
        {
            // A call that nobody put into the table is nobody's.
            throw new FaultException(FaultReason.Denied, "Nobody may make this call.");
        }
        if (role is null)
        {
            return;
        }
        // Asked on every call, not only when the connection opens: a certificate expires or is revoked while it lives.
        var verdict = chain.ValidateClient(context.GetHttpContext().Connection.ClientCertificate);
        if (!verdict.IsAccepted)
        {
            LogRefused(context.Method, context.Peer, verdict.Reason);
            throw new RpcException(new Status(StatusCode.Unauthenticated, verdict.Reason));
        }
        var peer = verdict.RequirePeer();
        if (peer.Role != role)
        {
            LogRefused(context.Method, context.Peer, $"'{peer.Name}' is {peer.Role}");
            throw new FaultException(FaultReason.Denied, $"The certificate of '{peer.Name}' is for the role {peer.Role.ToText()}; this call is for the role {role.Value.ToText()}.");
        }
        context.UserState[CallerKey] = Caller.From(peer);
    }

    private Exception ToRpc(Exception failure, ServerCallContext context)
    {
        switch (failure)
        {
            case RpcException:
                return failure;
            case FaultException fault:
                if (fault.Reason is FaultReason.Corrupt or FaultReason.DeviceFull)
                {
                    LogFault(context.Method, fault.Message);
                }
                return FaultStatus.ToRpc(fault);
            case OperationCanceledException:
                return new RpcException(new Status(StatusCode.Cancelled, "The call was cancelled."));
            case IOException or InvalidOperationException when context.CancellationToken.IsCancellationRequested:
                return new RpcException(new Status(StatusCode.Cancelled, "The connection was closed."));
            default:
                LogUnexpected(failure, context.Method, context.Peer);
                return new RpcException(new Status(StatusCode.Internal, "The controller failed at this call: its log says why."));
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Method} from {Peer} was refused: {Reason}")]
    private partial void LogRefused(string method, string peer, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Method} failed: {Reason}")]
    private partial void LogFault(string method, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Method} from {Peer} failed unexpectedly.")]
    private partial void LogUnexpected(Exception failure, string method, string peer);
}
