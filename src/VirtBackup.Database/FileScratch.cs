using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>Scratch in a file beside a database, which has no name any more once it is open and so never outlives the process.</summary>
internal sealed class FileScratch(string databasePath) : IScratch
{
    // Linux error numbers; on Windows the low half of the HRESULT.
    private const int NoSpace = 28;
    private const int QuotaExceeded = 122;
    private const int WindowsDiskFull = 112;

    private readonly string _path = databasePath + ".scratch";
    private SafeFileHandle? _file;

    public long Length { get; private set; }

    public void Append(ReadOnlySpan<byte> bytes)
    {
        try
        {
            RandomAccess.Write(_file ??= Create(), bytes, Length);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Translate(exception);
        }
        Length += bytes.Length;
    }

    public void Read(long offset, Span<byte> destination)
    {
        Check.That(offset >= 0 && offset <= Length - destination.Length);
        try
        {
            while (!destination.IsEmpty)
            {
                var count = RandomAccess.Read(_file!, destination, offset);
                if (count == 0)
                {
                    throw new FaultException(FaultReason.Unavailable, $"The file {_path} is shorter than what was written to it: check its device, then try again.");
                }
                offset += count;
                destination = destination[count..];
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Translate(exception);
        }
    }

    public void Dispose() => _file?.Dispose();

    private SafeFileHandle Create()
    {
        OwnerLock.CreateOwnerOnly(_path);
        if (OperatingSystem.IsWindows())
        {
            return File.OpenHandle(_path, FileMode.Truncate, FileAccess.ReadWrite, FileShare.None, FileOptions.DeleteOnClose);
        }
        var file = File.OpenHandle(_path, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
        File.Delete(_path);
        RandomAccess.SetLength(file, 0);
        return file;
    }

    private FaultException Translate(Exception exception)
    {
        var isFull = OperatingSystem.IsWindows() ? (exception.HResult & 0xffff) == WindowsDiskFull : exception.HResult is NoSpace or QuotaExceeded;
        return isFull
            ? new FaultException(FaultReason.DeviceFull, $"The device of the file {_path} is full: free space there and try again.", exception)
            : new FaultException(
                exception is UnauthorizedAccessException ? FaultReason.Denied : FaultReason.Unavailable,
                $"The file {_path} cannot be used ({exception.Message}): check its folder and device, then try again.", exception);
    }
}
