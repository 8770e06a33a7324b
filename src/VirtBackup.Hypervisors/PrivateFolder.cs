namespace VirtBackup.Hypervisors;

/// <summary>Folders that only the agent's own account may enter: its state, restored images and monitor sockets are nobody else's business.</summary>
public static class PrivateFolder
{
    /// <summary>Creates the folder; one that exists keeps its rights. On Windows the parent folder's rights apply.</summary>
    public static void Create(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(path);
        }
        else
        {
            Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }
}
