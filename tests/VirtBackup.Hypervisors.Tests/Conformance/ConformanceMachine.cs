using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>A machine that a driver under test protects, and what tests do to it past the driver.</summary>
public abstract class ConformanceMachine : IAsyncDisposable
{
    public const string Name = "web1";

    public abstract Id16 Id { get; }

    /// <summary>Names of the disks that are captured.</summary>
    public abstract IReadOnlyList<string> Disks { get; }

    /// <summary>Names of the disks that are skipped.</summary>
    public virtual IReadOnlyList<string> SkippedDisks => [];

    /// <summary>A driver without memory of what an earlier one did, as after a start of the agent.</summary>
    public abstract IHypervisor Connect();

    /// <summary>Writes to a disk as the guest would.</summary>
    public abstract Task WriteAsync(string disk, long offset, byte[] data);

    /// <summary>The content of a disk now.</summary>
    public abstract Task<byte[]> ReadAsync(string disk);

    /// <summary>What of the driver is there beside tracking; null: nothing.</summary>
    public abstract Task<string?> FindLeftoversAsync();

    /// <summary>Makes the machine unreachable to the driver.</summary>
    public abstract Task BreakAsync();

    /// <summary>A place for a restored machine that holds nothing.</summary>
    public abstract string NewRestoreFolder();

    /// <summary>Whether anything is at such a place.</summary>
    public abstract bool HasRestored(string folder);

    /// <summary>The content of a disk of a restored machine that is off.</summary>
    public abstract Task<byte[]> ReadRestoredAsync(RestoredMachine restored, string disk);

    public abstract ValueTask DisposeAsync();

    public async Task<IReadOnlyDictionary<string, byte[]>> ReadAllAsync()
    {
        var content = new Dictionary<string, byte[]>(StringComparer.Ordinal);
        foreach (var disk in Disks)
        {
            content[disk] = await ReadAsync(disk);
        }
        return content;
    }

    /// <summary>A few random writes to every disk.</summary>
    public async Task ScribbleAsync(Random random)
    {
        ArgumentNullException.ThrowIfNull(random);
        foreach (var disk in Disks)
        {
            var sectors = (await ReadAsync(disk)).Length / 512;
            for (var i = 0; i < 3; i++)
            {
                var data = new byte[512 * random.Next(1, 60)];
                random.NextBytes(data);
                await WriteAsync(disk, 512L * random.Next(sectors - (data.Length / 512)), data);
            }
        }
    }

    public async Task RequireTidyAsync() => Assert.Null(await FindLeftoversAsync());
}

/// <summary>A machine whose platform tracks changes.</summary>
public abstract class TrackingMachine : ConformanceMachine
{
    /// <summary>The platform keeps a mark for each point that is tracked; otherwise it tells changes since any point that is remembered.</summary>
    public virtual bool KeepsMarks => true;

    /// <summary>The machine tracks changes since this point, and since no other one for which a mark had to be kept.</summary>
    public async Task RequireTrackedAsync(PointBook book, Id16 point)
    {
        ArgumentNullException.ThrowIfNull(book);
        var tracked = await book.ListAsync(Connect());
        Assert.Contains(point, tracked);
        Assert.True(!KeepsMarks || tracked.Count == 1, $"{tracked.Count} points are tracked.");
    }

    /// <summary>Tracking of everything up to now is lost, as after an unclean end.</summary>
    public abstract Task LoseTrackingAsync();

    /// <returns>Its name.</returns>
    public abstract Task<string> AddDiskAsync(byte[] content);

    public abstract Task RemoveDiskAsync(string disk);

    public abstract Task GrowDiskAsync(string disk, long length);

    /// <summary>What another tool keeps there: made once, at the start.</summary>
    public abstract Task MakeForeignAsync();

    /// <summary>All that other tools keep there, to compare.</summary>
    public abstract Task<string> DescribeForeignAsync();
}

/// <summary>A machine on a server in memory, where a driver can be killed or cancelled at any of its calls.</summary>
public abstract class ServerMachine : TrackingMachine
{
    internal abstract IHypervisor Connect(Testing.Platforms.ServerLink link);
}
