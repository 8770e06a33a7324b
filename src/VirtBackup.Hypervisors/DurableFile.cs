namespace VirtBackup.Hypervisors;

/// <summary>Small files that survive a power loss once they are written, as a whole or not at all.</summary>
public static class DurableFile
{
    /// <summary>Written aside, flushed, renamed over what was there; the folder is flushed, too.</summary>
    public static void Write(string path, ReadOnlySpan<byte> content) => Write(path, content, new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write });

    /// <summary>The same, and no other account can read it.</summary>
    public static void WritePrivate(string path, ReadOnlySpan<byte> content)
    {
        var options = new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }
        Write(path, content, options);
    }

    private static void Write(string path, ReadOnlySpan<byte> content, FileStreamOptions options)
    {
        var partial = path + ".partial";
        // What a run that was killed left could have other rights.
        File.Delete(partial);
        using (var file = new FileStream(partial, options))
        {
            file.Write(content);
            file.Flush(flushToDisk: true);
        }
        File.Move(partial, path, overwrite: true);
        DurableFolder.Flush(Path.GetDirectoryName(path)!);
    }
}
