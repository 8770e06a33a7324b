using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Repository.Commits;

/// <summary>
/// Looks into the entries of a leaf with keys that the repository does not have. A holder of the VM keys unmasks each
/// secret and requires that it derives the entry's id.
/// </summary>
public interface ILeafInspector
{
    /// <summary>Accepts a leaf that is new to the repository.</summary>
    /// <param name="vm">The machine whose keys mask the entries.</param>
    /// <param name="leaf">Valid during the call.</param>
    /// <param name="cancellationToken">Stops the inspection.</param>
    /// <exception cref="FaultException">An entry is wrong; the commit is refused with this fault.</exception>
    ValueTask InspectAsync(Id16 vm, MapLeaf leaf, CancellationToken cancellationToken);
}

/// <summary>Accepts every leaf: for a repository without keys, where the agents check their own maps.</summary>
public sealed class KeylessLeafInspector : ILeafInspector
{
    public static KeylessLeafInspector Instance { get; } = new();

    public ValueTask InspectAsync(Id16 vm, MapLeaf leaf, CancellationToken cancellationToken) => ValueTask.CompletedTask;
}
