using VirtBackup.Core;

namespace VirtBackup.ObjectStores;

/// <summary>How a <see cref="LocalFolderStore"/> is opened.</summary>
public sealed record LocalFolderOptions
{
    /// <summary>
    /// The one process that may write holds the folder's lock and removes what a crash left staged. A reader takes no
    /// lock, and its writes and deletions are refused.
    /// </summary>
    public bool IsOwner { get; init; } = true;

    /// <summary>
    /// Creates the folder when it is missing. Off, because a folder whose file system is not mounted must not be
    /// replaced silently by an empty one.
    /// </summary>
    public bool CreateFolder { get; init; }

    /// <summary>Names staged files.</summary>
    public IEntropy Entropy { get; init; } = SystemEntropy.Instance;

    /// <summary>Files kept open for reading, at most.</summary>
    public int OpenFilesMax { get; init; } = 64;

    /// <summary>Uses only what .NET offers on every system, as on Windows: folders are not forced to stable storage.</summary>
    internal bool PortableOnly { get; init; }

    /// <summary>Gives names by linking, as on file systems that cannot rename without overwriting.</summary>
    internal bool LinkOnly { get; init; }
}
