using Google.Protobuf;
using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Protocol.Grpc;

/// <summary>
/// Carries a <see cref="FaultException"/> across gRPC and back: the status code says what to do, the trailer
/// <c>virtbackup-error-bin</c> (an <see cref="ErrorDetail"/>) says why.
/// </summary>
public static class FaultStatus
{
    private const string Trailer = "virtbackup-error-bin";

    /// <summary>Longest message for people that is sent, in characters.</summary>
    private const int MessageCharsMax = 4096;

    public static RpcException ToRpc(FaultException fault)
    {
        ArgumentNullException.ThrowIfNull(fault);
        var detail = new ErrorDetail { Reason = ToReason(fault.Reason) };
        var message = fault.Message.Length <= MessageCharsMax ? fault.Message : fault.Message[..MessageCharsMax];
        return new RpcException(new Status(ToCode(fault.Reason), message), new Metadata { { Trailer, detail.ToByteArray() } });
    }

    public static FaultException FromRpc(RpcException exception, string peer)
    {
        ArgumentNullException.ThrowIfNull(exception);
        if (exception.Trailers.GetValueBytes(Trailer) is { } bytes && TryParse(bytes) is { } reason && reason != FaultReason.Unspecified)
        {
            return new FaultException(reason, exception.Status.Detail, exception);
        }
        return exception.StatusCode switch
        {
            StatusCode.Unavailable => new FaultException(FaultReason.Unavailable, $"{peer} cannot be reached: {Cause(exception)}", exception),
            StatusCode.Cancelled or StatusCode.DeadlineExceeded => new FaultException(FaultReason.Unavailable, $"The call to {peer} broke off: {Cause(exception)}", exception),
            StatusCode.Unauthenticated or StatusCode.PermissionDenied => new FaultException(FaultReason.Denied, $"{peer} refused this certificate: {exception.Status.Detail}", exception),
            StatusCode.Unimplemented => new FaultException(FaultReason.Unsupported, $"{peer} does not know this call; it runs another version.", exception),
            _ => new FaultException(FaultReason.Unspecified, $"{peer} failed: {exception.Status.Detail}", exception),
        };
    }

    /// <summary>Whether the other side itself told this fault: the call reached it, and failed there.</summary>
    public static bool IsTold(FaultException fault)
    {
        ArgumentNullException.ThrowIfNull(fault);
        return fault.InnerException is RpcException exception && exception.Trailers.GetValueBytes(Trailer) is not null;
    }

    /// <summary>Whether this is a connection's failure that gRPC let through as it was, as when the peer dies in the handshake.</summary>
    internal static bool IsBrokenConnection(Exception exception) => exception is IOException or HttpRequestException;

    internal static FaultException FromBrokenConnection(Exception exception, string peer) =>
        new(FaultReason.Unavailable, $"{peer} cannot be reached: {exception.GetBaseException().Message}", exception);

    public static ErrorReason ToReason(FaultReason reason) => (ErrorReason)(int)reason;

    public static FaultReason FromReason(ErrorReason reason) =>
        Enum.IsDefined((FaultReason)(int)reason) ? (FaultReason)(int)reason : FaultReason.Unspecified;

    private static string Cause(RpcException exception)
    {
        Exception cause = exception.Status.DebugException ?? exception;
        while (cause.InnerException is { } inner)
        {
            cause = inner;
        }
        return cause is RpcException rpc ? rpc.Status.Detail : cause.Message;
    }

    private static FaultReason? TryParse(byte[] bytes)
    {
        try
        {
            return FromReason(ErrorDetail.Parser.ParseFrom(bytes).Reason);
        }
        catch (InvalidProtocolBufferException)
        {
            return null;
        }
    }

    private static StatusCode ToCode(FaultReason reason) => reason switch
    {
        FaultReason.Malformed or FaultReason.InvalidArgument => StatusCode.InvalidArgument,
        FaultReason.Corrupt => StatusCode.DataLoss,
        FaultReason.NotFound => StatusCode.NotFound,
        FaultReason.AlreadyExists => StatusCode.AlreadyExists,
        FaultReason.Denied => StatusCode.PermissionDenied,
        FaultReason.Fenced or FaultReason.SessionExpired => StatusCode.Aborted,
        FaultReason.Incomplete or FaultReason.FailedPrecondition or FaultReason.RetentionLocked or FaultReason.SnapshotLost => StatusCode.FailedPrecondition,
        FaultReason.DeviceFull => StatusCode.ResourceExhausted,
        FaultReason.Unsupported => StatusCode.Unimplemented,
        FaultReason.Cancelled => StatusCode.Cancelled,
        FaultReason.Unavailable or FaultReason.RepositoryBusy or FaultReason.HypervisorUnavailable => StatusCode.Unavailable,
        _ => StatusCode.Unknown,
    };
}
