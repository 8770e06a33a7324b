using System.Collections.Concurrent;
using VirtBackup.Core;

namespace VirtBackup.Controller.Migrations;

/// <summary>Which agent has a machine that is being migrated: both hosts have a copy of it for a while. Safe for concurrent use.</summary>
public sealed class MigrationOwners
{
    private readonly ConcurrentDictionary<Id16, string> _owners = new();

    /// <summary>Null: the machine is not being migrated.</summary>
    public string? Find(Id16 vmId) => _owners.GetValueOrDefault(vmId);

    public void Set(Id16 vmId, string agent) => _owners[vmId] = agent;

    public void Clear(Id16 vmId) => _owners.TryRemove(vmId, out _);
}
