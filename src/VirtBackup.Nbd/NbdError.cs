namespace VirtBackup.Nbd;

/// <summary>An error number that an NBD server reported (NBD protocol, "Error values"). Other numbers may occur: they are kept as they came.</summary>
#pragma warning disable CA1008 // The protocol has no zero error.
public enum NbdError : uint
#pragma warning restore CA1008
{
    /// <summary>EPERM: writing to a read-only export, for example.</summary>
    NotPermitted = 1,
    /// <summary>EIO.</summary>
    InputOutput = 5,
    /// <summary>ENOMEM.</summary>
    OutOfMemory = 12,
    /// <summary>EINVAL. QEMU also reports it when it reads from a point-in-time view that is broken.</summary>
    InvalidArgument = 22,
    /// <summary>ENOSPC.</summary>
    NoSpace = 28,
    /// <summary>EOVERFLOW.</summary>
    Overflow = 75,
    /// <summary>ENOTSUP.</summary>
    NotSupported = 95,
    /// <summary>ESHUTDOWN.</summary>
    ShuttingDown = 108,
}

/// <summary>The kinds of requests (NBD protocol, "Request types").</summary>
public enum NbdCommand : ushort
{
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    WriteZeroes = 6,
    BlockStatus = 7,
}

/// <summary>
/// The server answered one request with an error. The connection is fine and other requests go on. What a failed write or
/// trim changed is unknown; what a failed read left in the buffer is not data.
/// </summary>
public sealed class NbdErrorException : Exception
{
    internal NbdErrorException(NbdCommand command, long offset, long length, NbdError error, string? serverMessage, string server)
        : base(Describe(command, offset, length, error, serverMessage, server)) =>
        (Command, Offset, Length, Error, ServerMessage) = (command, offset, length, error, serverMessage);

    public NbdCommand Command { get; }

    /// <summary>Offset of the request on the wire in bytes: a piece of the caller's, when that was split.</summary>
    public long Offset { get; }

    /// <summary>Length of the request on the wire in bytes.</summary>
    public long Length { get; }

    public NbdError Error { get; }

    /// <summary>The server's own words, if it had any: printable, at most 512 characters.</summary>
    public string? ServerMessage { get; }

    private static string Describe(NbdCommand command, long offset, long length, NbdError error, string? serverMessage, string server)
    {
        var what = command switch
        {
            NbdCommand.Flush => "flush",
            NbdCommand.Read => $"read {length} bytes at offset {offset}",
            NbdCommand.Write => $"write {length} bytes at offset {offset}",
            NbdCommand.Trim => $"trim {length} bytes at offset {offset}",
            NbdCommand.WriteZeroes => $"write zeroes to {length} bytes at offset {offset}",
            _ => $"report the status of {length} bytes at offset {offset}",
        };
        var words = serverMessage is null ? "" : $" ({serverMessage})";
        return $"The NBD server at {server} could not {what}: {NameOf(error)}{words}.";
    }

    private static string NameOf(NbdError error) => error switch
    {
        NbdError.NotPermitted => "EPERM",
        NbdError.InputOutput => "EIO",
        NbdError.OutOfMemory => "ENOMEM",
        NbdError.InvalidArgument => "EINVAL",
        NbdError.NoSpace => "ENOSPC",
        NbdError.Overflow => "EOVERFLOW",
        NbdError.NotSupported => "ENOTSUP",
        NbdError.ShuttingDown => "ESHUTDOWN",
        _ => $"error {(uint)error}",
    };
}
