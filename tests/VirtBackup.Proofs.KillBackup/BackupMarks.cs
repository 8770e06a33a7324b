using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.KillBackup;

/// <summary>How far a backup had come when the kill hit it, as the traces that it left tell.</summary>
internal enum Stage
{
    /// <summary>No job was made.</summary>
    Unasked,

    /// <summary>Settling and preparing: no disk was frozen.</summary>
    Preparing,

    /// <summary>The disks were frozen; reading and sending.</summary>
    Reading,

    /// <summary>The agent was about to ask for the commit, or had; the manifest was not there.</summary>
    Committing,

    /// <summary>The manifest was there; QEMU still held the view.</summary>
    Releasing,

    /// <summary>The manifest was there and the machine was tidied up.</summary>
    Over,
}

/// <summary>
/// Sees how far a backup is, without asking the product: from the agent's folders, the repository, and QEMU. Made before
/// the backup is asked for.
/// </summary>
internal sealed class BackupMarks
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(1);
    private readonly LabVm _vm;
    private readonly InstalledAgent _agent;
    private readonly string _manifests;
    private readonly HashSet<string> _before;
    private readonly string _record;
    private readonly DateTime _recordBefore;

    public BackupMarks(LabVm vm, Installation installation, InstalledAgent agent)
    {
        _vm = vm;
        _agent = agent;
        _manifests = Directory.EnumerateDirectories(Path.Combine(installation.Repository, "recovery-points")).Single();
        _before = [.. Directory.EnumerateFiles(_manifests)];
        _record = Directory.EnumerateFiles(Path.Combine(agent.Home, "state"), "*.json").Single();
        _recordBefore = File.GetLastWriteTimeUtc(_record);
    }

    /// <summary>Waits for a mark.</summary>
    public async Task WaitAsync(Mark mark)
    {
        using var limit = new CancellationTokenSource(Limit);
        while (!await IsThereAsync(mark))
        {
            if (limit.IsCancellationRequested) throw new RefutedException($"The backup did not come to '{mark.ToString().ToLowerInvariant()}' within {Limit.TotalSeconds:0} s.");
            await Task.Delay(Poll, CancellationToken.None);
        }
    }

    /// <summary>How far the backup had come; <see cref="Stage.Preparing"/> also when there is none. To be called right after a kill.</summary>
    public async Task<Stage> ReadStageAsync()
    {
        var frozen = (await ListNodesAsync(_vm)).Any(node => node.EndsWith("-cbw", StringComparison.Ordinal));
        return await IsThereAsync(Mark.Committed) ? (frozen ? Stage.Releasing : Stage.Over)
            : await IsThereAsync(Mark.Committing) ? Stage.Committing
            : frozen ? Stage.Reading
            : Stage.Preparing;
    }

    /// <summary>Whether the point's manifest is in the repository.</summary>
    public bool IsCommitted(string point) => File.Exists(Path.Combine(_manifests, $"{point}.vbm"));

    /// <summary>The product's block nodes in QEMU.</summary>
    public static async Task<IReadOnlyList<string>> ListNodesAsync(LabVm vm) =>
        [.. (await vm.QmpAsync("query-named-block-nodes", """{"flat":true}""")).EnumerateArray()
            .Select(node => node.GetProperty("node-name").GetString()!).Where(name => name.StartsWith("vb-", StringComparison.Ordinal))];

    private async ValueTask<bool> IsThereAsync(Mark mark) => mark switch
    {
        Mark.Asked => true,
        Mark.Cutting => Directory.EnumerateFileSystemEntries(_agent.FleeceFolder).Any(),
        Mark.Reading => (await _vm.QmpAsync("query-block-exports")).GetArrayLength() == _vm.Disks.Count,
        Mark.Committing => File.GetLastWriteTimeUtc(_record) != _recordBefore,
        _ => Directory.EnumerateFiles(_manifests).Any(file => !_before.Contains(file)),
    };
}
