using CsCheck;
using VirtBackup.Core;
using VirtBackup.Testing.Stores;

namespace VirtBackup.ObjectStores.Tests;

/// <summary>The simulated store keeps what the port promises, and each planted defect breaks exactly that.</summary>
public sealed class SimulatedStoreTests
{
    private const int Seeds = 40;
    private static readonly CancellationToken None = CancellationToken.None;

    [Fact]
    public async Task Without_a_defect_no_crash_loses_what_was_acknowledged()
    {
        var broken = await FindBrokenPromisesAsync(new SimulatedStoreOptions());
        Assert.Empty(broken);
    }

    [Fact]
    public async Task Skipping_the_file_flush_tears_acknowledged_objects()
    {
        var broken = await FindBrokenPromisesAsync(new SimulatedStoreOptions { SkipFileSync = true });
        Assert.Contains(Promise.AcknowledgedIsIntact, broken);
        Assert.DoesNotContain(Promise.AcknowledgedExists, broken);
    }

    [Fact]
    public async Task Skipping_the_folder_flush_loses_acknowledged_names_and_undoes_deletions()
    {
        var broken = await FindBrokenPromisesAsync(new SimulatedStoreOptions { SkipFolderSync = true });
        Assert.Contains(Promise.AcknowledgedExists, broken);
        Assert.Contains(Promise.DeletedIsGone, broken);
        Assert.DoesNotContain(Promise.AcknowledgedIsIntact, broken);
    }

    [Fact]
    public async Task Naming_before_flushing_shows_torn_objects()
    {
        var broken = await FindBrokenPromisesAsync(new SimulatedStoreOptions { TearOnPublish = true });
        Assert.Equal([Promise.VisibleIsWhole], broken);
    }

    [Fact]
    public async Task Every_fate_of_an_unflushed_name_and_deletion_occurs()
    {
        var kept = new HashSet<bool>();
        var undone = new HashSet<bool>();
        for (var seed = 0; seed < Seeds; seed++)
        {
            var store = new SimulatedStore();
            await store.PutAsync("old", Content(1), None);
            store.CrashAt(store.Operations + 4); // create, write, flush, name | flush of the folder
            await Assert.ThrowsAsync<SimulatedCrashException>(async () => await store.PutAsync("new", Content(2), None));
            kept.Add(await store.Crash(seed).FindAsync("new", None) is not null);

            store = new SimulatedStore();
            await store.PutAsync("old", Content(1), None);
            store.CrashAt(store.Operations + 1);
            await Assert.ThrowsAsync<SimulatedCrashException>(async () => await store.DeleteAsync("old", None));
            undone.Add(await store.Crash(seed).FindAsync("old", None) is not null);
        }
        Assert.Equal(2, kept.Count);
        Assert.Equal(2, undone.Count);
    }

    [Fact]
    public async Task After_the_crash_nothing_works_and_one_seed_has_one_outcome()
    {
        var store = new SimulatedStore(new SimulatedStoreOptions { SkipFileSync = true, SkipFolderSync = true });
        for (var i = 0; i < 20; i++)
        {
            await store.PutAsync($"k/{i}", Content(i), None);
        }
        Assert.Equal(await DumpAsync(store.Crash(7)), await DumpAsync(store.Crash(7)));
        Assert.NotEqual(await DumpAsync(store.Crash(7)), await DumpAsync(store.Crash(8)));
        await Assert.ThrowsAsync<SimulatedCrashException>(async () => await store.FindAsync("k/1", None));
        await Assert.ThrowsAsync<SimulatedCrashException>(async () => await store.CreateAsync(None));
    }

    [Fact]
    public async Task A_killed_process_loses_only_what_was_staged()
    {
        var store = new SimulatedStore();
        await store.PutAsync("a", Content(1), None);
        store.CrashAt(store.Operations + 4);
        await Assert.ThrowsAsync<SimulatedCrashException>(async () => await store.PutAsync("b", Content(2), None));
        var successor = store.Kill();
        Assert.Equal(Content(2), await successor.ReadAllAsync("b", 1 << 20, None));
        Assert.Equal(0, successor.StagedCount);
        Assert.Equal(await DumpAsync(successor.Crash(1)), await DumpAsync(successor.Crash(2)));
    }

    [Fact]
    public async Task A_full_device_and_injected_faults_spend_the_writer()
    {
        var store = new SimulatedStore(new SimulatedStoreOptions { CapacityBytes = 1000 });
        await using (var writer = await store.CreateAsync(None))
        {
            await writer.WriteAsync(new byte[900], None);
            var full = await Assert.ThrowsAsync<FaultException>(async () => await writer.WriteAsync(new byte[200], None));
            Assert.Equal(FaultReason.DeviceFull, full.Reason);
            var spent = await Assert.ThrowsAsync<FaultException>(async () => await writer.PublishAsync("x", None));
            Assert.Equal(FaultReason.FailedPrecondition, spent.Reason);
        }
        Assert.Equal(1000, await store.GetFreeBytesAsync(None));

        var failures = 1;
        store = new SimulatedStore(new SimulatedStoreOptions
        {
            Inject = operation => operation.Step == SimulatedStep.SyncFile && failures-- > 0 ? FaultReason.Unavailable : null,
        });
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await store.PutAsync("x", Content(1), None));
        Assert.Equal(FaultReason.Unavailable, fault.Reason);
        Assert.Null(await store.FindAsync("x", None));
        Assert.True(await store.PutAsync("x", Content(1), None));
    }

    [Fact]
    public async Task After_a_failed_folder_flush_no_name_changes_until_the_store_is_opened_anew()
    {
        var failures = 1;
        var store = new SimulatedStore(new SimulatedStoreOptions
        {
            Inject = operation => operation.Step == SimulatedStep.SyncFolder && failures-- > 0 ? FaultReason.Unavailable : null,
        });
        await Assert.ThrowsAsync<FaultException>(async () => await store.PutAsync("f/1", Content(1), None));
        await Assert.ThrowsAsync<FaultException>(async () => await store.PutAsync("f/2", Content(1), None));
        await Assert.ThrowsAsync<FaultException>(async () => await store.DeleteAsync("f/1", None));
        Assert.Equal(Content(1), await store.ReadAllAsync("f/1", 1 << 20, None));
        Assert.True(await store.Kill().PutAsync("f/2", Content(1), None));
    }

    [Fact]
    public void Any_workload_crashed_anywhere_keeps_its_promises()
    {
        Gen.Select(Gen.Int, Gen.Int[0, 120], Gen.Int).Sample(
            (workload, crashAt, crashSeed) =>
            {
                var broken = new HashSet<Promise>();
                RunAndCheckAsync(new SimulatedStoreOptions(), workload, crashAt, crashSeed, broken).GetAwaiter().GetResult();
                return broken.Count == 0;
            },
            iter: 500);
    }

    private static async Task<HashSet<Promise>> FindBrokenPromisesAsync(SimulatedStoreOptions options)
    {
        var broken = new HashSet<Promise>();
        var operations = await RunAndCheckAsync(options, 1, long.MaxValue, 0, broken);
        Assert.True(operations > 50);
        for (var crashAt = 0; crashAt < operations; crashAt++)
        {
            for (var seed = 0; seed < Seeds; seed++)
            {
                await RunAndCheckAsync(options, 1, crashAt, seed, broken);
            }
        }
        return broken;
    }

    /// <summary>Runs a seeded workload until it ends or crashes, then checks what is left; returns the operations done.</summary>
    private static async Task<long> RunAndCheckAsync(SimulatedStoreOptions options, int workload, long crashAt, int crashSeed, HashSet<Promise> broken)
    {
        var store = new SimulatedStore(options);
        store.CrashAt(crashAt);
        var random = new Random(workload);
        var acknowledged = new Dictionary<string, byte[]>();
        var deleted = new HashSet<string>();
        var attempted = new Dictionary<string, byte[]>();
        try
        {
            for (var i = 0; i < 20; i++)
            {
                var key = $"f{random.Next(3)}/{i}";
                if (acknowledged.Count > 0 && random.Next(4) == 0)
                {
                    key = acknowledged.Keys.Order(StringComparer.Ordinal).ElementAt(random.Next(acknowledged.Count));
                    acknowledged.Remove(key);
                    await store.DeleteAsync(key, None);
                    deleted.Add(key);
                    continue;
                }
                attempted[key] = Content(i);
                if (await store.PutAsync(key, attempted[key], None))
                {
                    acknowledged[key] = attempted[key];
                }
            }
        }
        catch (SimulatedCrashException)
        {
            // As ordered.
        }
        var operations = store.Operations;
        await CheckPromisesAsync(store.Crash(crashSeed), acknowledged, deleted, attempted, broken);
        return operations;
    }

    private static async Task CheckPromisesAsync(
        SimulatedStore store, Dictionary<string, byte[]> acknowledged, HashSet<string> deleted, Dictionary<string, byte[]> attempted, HashSet<Promise> broken)
    {
        foreach (var (key, content) in acknowledged)
        {
            if (await store.FindAsync(key, None) is null)
            {
                broken.Add(Promise.AcknowledgedExists);
            }
            else if (!(await store.ReadAllAsync(key, 1 << 20, None)).AsSpan().SequenceEqual(content))
            {
                broken.Add(Promise.AcknowledgedIsIntact);
            }
        }
        await foreach (var (key, _) in store.ListAsync("", None))
        {
            if (deleted.Contains(key))
            {
                broken.Add(Promise.DeletedIsGone);
            }
            if (!acknowledged.ContainsKey(key) && !(await store.ReadAllAsync(key, 1 << 20, None)).AsSpan().SequenceEqual(attempted[key]))
            {
                broken.Add(Promise.VisibleIsWhole);
            }
        }
    }

    private static async Task<string> DumpAsync(SimulatedStore store)
    {
        var lines = new List<string>();
        await foreach (var (key, length) in store.ListAsync("", None))
        {
            lines.Add($"{key} {Convert.ToHexString(await store.ReadAllAsync(key, (int)length, None))}");
        }
        return string.Join('\n', lines);
    }

    private static byte[] Content(int seed)
    {
        var bytes = new byte[700 + (97 * seed)];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    private enum Promise
    {
        AcknowledgedExists,
        AcknowledgedIsIntact,
        DeletedIsGone,
        VisibleIsWhole,
    }
}
