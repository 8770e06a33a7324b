namespace VirtBackup.Hypervisors;

/// <summary>Small files that survive a power loss once they are written, as a whole or not at all.</summary>
public static class DurableFile
{
    /// <summary>Written aside, flushed, renamed over what was there; the folder is flushed, too.</summary>
    public static void Write(string path, ReadOnlySpan<byte> content)
    {
        var partial = path + ".partial";
        using (var file = new FileStream(partial, FileMode.Create, FileAccess.Write))
        {
            file.Write(content);
            file.Flush(flushToDisk: true);
        }
        File.Move(partial, path, overwrite: true);
        DurableFolder.Flush(Path.GetDirectoryName(path)!);
    }
}
