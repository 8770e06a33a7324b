using System.Collections.Concurrent;
using VirtBackup.Core;

namespace VirtBackup.Controller.Migrations;

/// <summary>Which agent has a machine that is being migrated: both hosts have a copy of it for a while. Safe for concurrent use.</summary>
public sealed class MigrationOwners : IDisposable
{
    private readonly ConcurrentDictionary<Id16, string> _owners = new();
    private readonly Gate _changing = new();

    /// <summary>
    /// Held while a machine changes hands in the catalog, and while an inventory is taken: one that was judged by the old owner must not be
    /// written behind the change, since its agent would not send it again.
    /// </summary>
    public ValueTask<IDisposable> EnterAsync(CancellationToken cancellationToken) => _changing.CloseAsync(cancellationToken);

    /// <summary>Null: the machine is not being migrated.</summary>
    public string? Find(Id16 vmId) => _owners.GetValueOrDefault(vmId);

    public void Set(Id16 vmId, string agent) => _owners[vmId] = agent;

    public void Clear(Id16 vmId) => _owners.TryRemove(vmId, out _);

    public void Dispose() => _changing.Dispose();
}
