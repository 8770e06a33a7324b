using VirtBackup.Core;

namespace VirtBackup.CloudStores.Spool;

/// <summary>
/// A local folder where objects lie while they grow and until the provider has acknowledged them. What is left of an
/// earlier process is removed. Its owner sees to it that one process uses it. Safe for concurrent use.
/// </summary>
internal sealed class SpoolFolder
{
    /// <summary>Less free space than this is too little to begin with: a pack of each kind for two sessions, bytes.</summary>
    public const long FreeBytesMin = 4L * 64 << 20;

    private const string Ending = ".spool";
    private readonly IEntropy _entropy;

    private SpoolFolder(string path, IEntropy entropy) => (Path, _entropy) = (path, entropy);

    public string Path { get; }

    /// <param name="path">Made if it is not there.</param>
    /// <param name="freeBytesMin">What its device must have free.</param>
    /// <param name="entropy">Names files.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.DeviceFull"/>: too little space; <see cref="FaultReason.Denied"/>.</exception>
    public static SpoolFolder Open(string path, long freeBytesMin, IEntropy entropy)
    {
        var folder = new SpoolFolder(System.IO.Path.GetFullPath(path), entropy);
        try
        {
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(folder.Path);
            }
            else
            {
                Directory.CreateDirectory(folder.Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            }
            foreach (var file in Directory.GetFiles(folder.Path, "*" + Ending))
            {
                File.Delete(file);
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw folder.Fault("be opened", failure);
        }
        return folder.FreeBytes is not { } free || free >= freeBytesMin
            ? folder
            : throw new FaultException(
                FaultReason.DeviceFull, $"The spool folder '{folder.Path}' has {free} bytes of free space; {freeBytesMin} are needed. Free space there, or give another folder.");
    }

    /// <summary>Free bytes of its device, or null where the system does not say.</summary>
    public long? FreeBytes
    {
        get
        {
            try
            {
                return new DriveInfo(Path).AvailableFreeSpace;
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or ArgumentException)
            {
                return null;
            }
        }
    }

    /// <summary>A new file.</summary>
    public FileStream Create()
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.ReadWrite, Share = FileShare.Read, BufferSize = 0 };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }
        try
        {
            return new FileStream(System.IO.Path.Combine(Path, Id16.Create(_entropy) + Ending), options);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw Fault("be written to", failure);
        }
    }

    public FaultException Fault(string action, Exception failure)
    {
        var (reason, advice) = failure switch
        {
            UnauthorizedAccessException => (FaultReason.Denied, "Check its owner and permissions"),
            _ when FreeBytes < 1 << 20 => (FaultReason.DeviceFull, "Its device is full: free space there"),
            _ => (FaultReason.Unavailable, "Check its device"),
        };
        return new FaultException(reason, $"The spool folder '{Path}' cannot {action} ({failure.Message.TrimEnd('.')}). {advice}, then try again.", failure);
    }
}
