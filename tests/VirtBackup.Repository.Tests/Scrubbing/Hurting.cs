using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Ingest;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests.Scrubbing;

/// <summary>Does harm to a world's packs, and what a scrub and an agent do about it.</summary>
internal static class Hurting
{
    private static CancellationToken Token => World.Token;

    public static async Task<(string Key, PackEntry Entry, byte[] Pack)> FindPackAsync(this World world, Id32 id, Id16? scope = null)
    {
        foreach (var key in await world.KeysAsync(ObjectKeys.PacksPrefix))
        {
            var pack = await world.Store.ReadAllAsync(key, Limits.PackBytesMax, Token);
            PackEntry[] entries;
            try
            {
                entries = PackFooter.Parse(pack, pack.Length).Entries.ToArray();
            }
            catch (FaultException)
            {
                continue;
            }
            if (Array.Find(entries, entry => entry.Header.Id == id && (scope ?? entry.Header.Scope) == entry.Header.Scope) is { Header.RawLength: > 0 } found)
            {
                return (key, found, pack);
            }
        }
        throw new InvalidOperationException($"No pack holds {id}.");
    }

    /// <summary>Flips a bit of the payload of that record; returns the pack's key.</summary>
    public static async Task<string> HurtAsync(this World world, Id32 id, int payloadByte = 100, Id16? scope = null)
    {
        var (key, entry, pack) = await world.FindPackAsync(id, scope);
        pack[entry.Offset + RecordHeader.Size + payloadByte] ^= 4;
        await world.ReplaceAsync(key, pack);
        return key;
    }

    /// <summary>Reads everything, a moment later.</summary>
    public static ValueTask<ScrubReport> ScrubAsync(this World world, bool open) => world.ScrubAsync(open ? new HashOpener() : null);

    public static ValueTask<ScrubReport> ScrubAsync(this World world, IChunkOpener? opener)
    {
        ((SetClock)world.Clock).Pass(TimeSpan.FromSeconds(1));
        return world.Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = long.MaxValue, Opener = opener }, Token);
    }

    /// <summary>As an agent reads in full: it names everything, sends what is not vouched for, and sends again when it is told to.</summary>
    /// <returns>Chunks that were sent.</returns>
    public static async Task<int> ReadInFullAsync(this World world, PointBytes point)
    {
        await using var session = world.Begin();
        foreach (var epoch in point.Epochs)
        {
            await world.Repository.PutKeyAsync(point.Machine.Key(epoch), Token);
        }
        var contents = point.Disk.Distinct().Where(content => content != 0).ToArray();
        var bitmap = await world.Repository.ProbeAsync(RecordKind.Data, session, contents.SelectMany(content => Machine.ChunkId(content).ToArray()).ToArray(), Token);
        var missing = contents.Where((_, i) => (bitmap[i / 8] & (1 << (i % 8))) == 0).Select(content => point.Machine.DataRecord(content)).ToList();
        // Another nonce would make other packs of them; here it is another order.
        missing.Reverse();
        await SendAsync(session, RecordKind.Data, missing);
        var nodes = await world.Repository.ProbeAsync(RecordKind.Map, session, point.Nodes.SelectMany(node => RecordHeader.Parse(node).Id.ToArray()).ToArray(), Token);
        await SendAsync(session, RecordKind.Map, point.Nodes.Where((_, i) => (nodes[i / 8] & (1 << (i % 8))) == 0).ToList());
        await world.CommitAsync(session, point);
        await world.Repository.Upkeep.SettleAsync(Token);
        return missing.Count;
    }

    public static async Task AssertSoundAsync(this World world, params PointBytes[] points)
    {
        foreach (var point in points)
        {
            Assert.True((await world.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
            Assert.Empty(await world.Repository.Upkeep.FindLossesAsync(point.Id, Token));
            await world.AssertReadableAsync(point);
        }
        Assert.All(await world.Repository.Upkeep.ListDamagesAsync(Token), damage => Assert.True(damage.HealedMs > 0, damage.ObjectKey));
        Assert.DoesNotContain(await world.DumpAsync(), line => line.Contains("quarantined", StringComparison.Ordinal) || line.Contains("doubtful", StringComparison.Ordinal));
    }

    private static async Task SendAsync(IngestSession session, RecordKind kind, List<byte[]> records)
    {
        var lane = session.OpenLane(kind);
        for (var tries = 0; ; tries++)
        {
            try
            {
                foreach (var record in records)
                {
                    await lane.AppendAsync(record, Token);
                }
                await lane.FlushAsync(Token);
                return;
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable && tries < 3)
            {
                var offset = await lane.RewindAsync(Token);
                var durable = 0;
                for (long at = 0; at < offset; durable++)
                {
                    at += records[durable].Length;
                }
                records = records[durable..];
            }
        }
    }
}

/// <summary>Another repository, in memory.</summary>
internal sealed class MemorySource(IEnumerable<byte[]> records) : IRecordSource
{
    private readonly Dictionary<(RecordKind, Id32, Id16), byte[]> _records = records.DistinctBy(static record => RecordHeader.Parse(record).Id)
        .ToDictionary(static record => (RecordHeader.Parse(record).Kind, RecordHeader.Parse(record).Id, RecordHeader.Parse(record).Scope));

    public int Asked { get; private set; }

    public string Name => "memory";

    public ValueTask<ReadOnlyMemory<byte>?> FetchAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken)
    {
        Asked++;
        return ValueTask.FromResult(_records.TryGetValue((kind, id, scope), out var record) ? record : (ReadOnlyMemory<byte>?)null);
    }
}
