namespace VirtBackup.Cli.Setup;

/// <summary>Files and folders that are their owner's alone.</summary>
internal static class OwnerFiles
{
    private const UnixFileMode OwnerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode OwnerFolder = OwnerFile | UnixFileMode.UserExecute;

    /// <summary>Creates one folder with mode 0700.</summary>
    public static void CreateFolder(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(path);
        }
        else
        {
            Directory.CreateDirectory(path, OwnerFolder);
        }
    }

    /// <summary>Creates a file with mode 0600 and forces it to stable storage; one that is there already is refused.</summary>
    public static void Create(string path, ReadOnlySpan<byte> content)
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, Share = FileShare.None, BufferSize = 0 };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = OwnerFile;
        }
        using var stream = new FileStream(path, options);
        stream.Write(content);
        stream.Flush(flushToDisk: true);
    }

    /// <summary>Puts the file in its place in one step, with mode 0600.</summary>
    public static void Replace(string path, ReadOnlySpan<byte> content)
    {
        var staged = path + ".new";
        File.Delete(staged);
        Create(staged, content);
        File.Move(staged, path, overwrite: true);
    }

    /// <summary>Refuses a key that other users may read.</summary>
    public static void RequirePrivate(string path)
    {
        if (!File.Exists(path))
        {
            throw new CommandFault(ExitCode.NotFound, $"'{path}' does not exist.");
        }
        if (!OperatingSystem.IsWindows() && (File.GetUnixFileMode(path) & ~OwnerFolder) != 0)
        {
            throw new CommandFault(ExitCode.Refused, $"The private key '{path}' is open to other users.", $"chmod 600 '{path}'");
        }
    }
}
