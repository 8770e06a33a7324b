namespace VirtBackup.Hypervisors;

/// <summary>Small files that survive a power loss once they are written, as a whole or not at all.</summary>
public static class DurableFile
{
    /// <summary>Of what is written aside; a process that is killed leaves it.</summary>
    internal const string PartialSuffix = ".partial";

    /// <summary>Written aside, flushed, renamed over what was there; the folder is flushed, too.</summary>
    public static void Write(string path, ReadOnlySpan<byte> content) => Write(path, content, new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write });

    /// <summary>As <see cref="Write(string, ReadOnlySpan{byte})"/>; nobody but this process's user can read it at any time.</summary>
    public static void WritePrivate(string path, ReadOnlySpan<byte> content)
    {
        // What is there keeps its rights when it is written to; the remains of a killed run may have others.
        File.Delete(path + PartialSuffix);
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }
        Write(path, content, options);
    }

    private static void Write(string path, ReadOnlySpan<byte> content, FileStreamOptions options)
    {
        var partial = path + PartialSuffix;
        try
        {
            using (var file = new FileStream(partial, options))
            {
                file.Write(content);
                file.Flush(flushToDisk: true);
            }
            File.Move(partial, path, overwrite: true);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            File.Delete(partial);
            throw;
        }
        DurableFolder.Flush(Path.GetDirectoryName(path)!);
    }
}
