using System.Security.Cryptography;
using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores.Tests;

/// <summary>What every <see cref="IObjectStore"/> must do; each implementation runs it all.</summary>
public abstract class StoreConformance
{
    protected static readonly CancellationToken None = CancellationToken.None;

    protected abstract IObjectStore Store { get; }

    /// <summary>Whether a deletion says that there was nothing to delete: providers do not.</summary>
    protected virtual bool TellsAbsence => true;

    /// <summary>How many staged objects exist.</summary>
    protected abstract int CountStaged();

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(1_000_003)]
    public async Task What_was_published_is_read_back(int length)
    {
        var content = RandomNumberGenerator.GetBytes(length);
        Assert.True(await Store.PutAsync("packs/ab/object-1.pack", content, None));
        Assert.Equal(content, await Store.ReadAllAsync("packs/ab/object-1.pack", length, None));
        Assert.Equal(new ObjectInfo("packs/ab/object-1.pack", length), await Store.FindAsync("packs/ab/object-1.pack", None));
    }

    [Fact]
    public async Task Many_writes_make_one_object()
    {
        var parts = Enumerable.Range(0, 50).Select(i => RandomNumberGenerator.GetBytes(i * 37)).ToArray();
        await using var writer = await Store.CreateAsync(None);
        foreach (var part in parts)
        {
            await writer.WriteAsync(part, None);
        }
        var all = parts.SelectMany(part => part).ToArray();
        Assert.Equal(all.Length, writer.Length);
        Assert.True(await writer.PublishAsync("a", None));
        Assert.Equal(all, await Store.ReadAllAsync("a", all.Length, None));
    }

    [Fact]
    public async Task Nothing_is_visible_before_publishing()
    {
        await using var writer = await Store.CreateAsync(None);
        await writer.WriteAsync(new byte[100_000], None);
        Assert.Empty(await KeysAsync(""));
        Assert.Null(await Store.FindAsync("x/y", None));
        Assert.True(await writer.PublishAsync("x/y", None));
        Assert.Equal(["x/y"], await KeysAsync(""));
    }

    [Fact]
    public async Task A_key_is_given_once()
    {
        Assert.True(await Store.PutAsync("k/1", new byte[] { 1 }, None));
        Assert.False(await Store.PutAsync("k/1", new byte[] { 2, 2 }, None));
        Assert.Equal([1], await Store.ReadAllAsync("k/1", 10, None));
        Assert.Equal(0, CountStaged());
    }

    [Fact]
    public async Task Of_concurrent_publishers_exactly_one_wins()
    {
        for (var round = 0; round < 20; round++)
        {
            var key = $"race/{round}/x";
            var results = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(async () => await Store.PutAsync(key, new[] { (byte)i }, None))));
            var winner = Assert.Single(Enumerable.Range(0, 8), i => results[i]);
            Assert.Equal([(byte)winner], await Store.ReadAllAsync(key, 1, None));
        }
        Assert.Equal(0, CountStaged());
    }

    [Fact]
    public async Task Ranges_are_exact_and_short_only_at_the_end()
    {
        const int Length = 70_001;
        var content = RandomNumberGenerator.GetBytes(Length);
        await Store.PutAsync("ranges", content, None);
        await Gen.Select(Gen.Int[0, Length + 10], Gen.Int[0, 80_000]).SampleAsync(async (offset, count) =>
        {
            var destination = new byte[count];
            var read = await Store.ReadAsync("ranges", offset, destination, None);
            var expected = content.AsSpan(Math.Min(offset, Length), Math.Clamp(Length - offset, 0, count));
            Assert.Equal(expected.Length, read);
            Assert.True(expected.SequenceEqual(destination.AsSpan(0, read)));
        }, iter: 200);
        Assert.Equal(0, await Store.ReadAsync("ranges", long.MaxValue, new byte[5], None));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(async () => await Store.ReadAsync("ranges", -1, new byte[5], None));
    }

    [Fact]
    public async Task Lists_hold_whole_segments_of_the_prefix()
    {
        string[] keys = ["a/1", "a/2", "a/b/3", "ab/4", ".hidden", "c"];
        foreach (var key in keys)
        {
            await Store.PutAsync(key, new byte[key.Length], None);
        }
        Assert.Equal(keys.Order(StringComparer.Ordinal), await KeysAsync(""));
        Assert.Equal(["a/1", "a/2", "a/b/3"], await KeysAsync("a/"));
        Assert.Equal(["a/b/3"], await KeysAsync("a/b/"));
        Assert.Empty(await KeysAsync("nothing/here/"));
        await foreach (var info in Store.ListAsync("", None))
        {
            Assert.Equal(info.Key.Length, info.Length);
        }
    }

    [Theory]
    [InlineData("a")]
    [InlineData("/")]
    [InlineData("../")]
    [InlineData("a//")]
    [InlineData("staging/")]
    public async Task A_prefix_that_is_none_is_refused(string prefix)
    {
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await KeysAsync(prefix));
        Assert.Equal(FaultReason.InvalidArgument, fault.Reason);
    }

    [Fact]
    public async Task What_was_deleted_is_gone_and_its_key_is_free()
    {
        await Store.PutAsync("d/1", new byte[] { 1 }, None);
        Assert.Equal(1, await Store.ReadAsync("d/1", 0, new byte[1], None));
        Assert.True(await Store.DeleteAsync("d/1", None));
        Assert.Equal(!TellsAbsence, await Store.DeleteAsync("d/1", None));
        Assert.Equal(!TellsAbsence, await Store.DeleteAsync("no/such", None));
        Assert.Null(await Store.FindAsync("d/1", None));
        await RefusesAsync(FaultReason.NotFound, async () => await Store.ReadAsync("d/1", 0, new byte[1], None));
        Assert.True(await Store.PutAsync("d/1", new byte[] { 2 }, None));
        Assert.Equal([2], await Store.ReadAllAsync("d/1", 1, None));
    }

    [Fact]
    public async Task What_never_was_is_not_found()
    {
        await RefusesAsync(FaultReason.NotFound, async () => await Store.ReadAsync("a", 0, new byte[1], None));
        await RefusesAsync(FaultReason.NotFound, async () => await Store.ReadAsync("a/b/c", 0, new byte[1], None));
        Assert.Null(await Store.FindAsync("a/b/c", None));
    }

    [Theory]
    [InlineData("")]
    [InlineData("/a")]
    [InlineData("a/")]
    [InlineData("a//b")]
    [InlineData(".")]
    [InlineData("..")]
    [InlineData("a/../b")]
    [InlineData("a/./b")]
    [InlineData("a\\b")]
    [InlineData("a b")]
    [InlineData("a\0b")]
    [InlineData("ä")]
    [InlineData("lock")]
    [InlineData("staging/x")]
    [InlineData("Staging/x")]
    public async Task A_key_that_is_none_is_refused(string key)
    {
        await RefusesAsync(FaultReason.InvalidArgument, async () => await Store.PutAsync(key, new byte[1], None));
        await RefusesAsync(FaultReason.InvalidArgument, async () => await Store.ReadAsync(key, 0, new byte[1], None));
        await RefusesAsync(FaultReason.InvalidArgument, async () => await Store.FindAsync(key, None));
        await RefusesAsync(FaultReason.InvalidArgument, async () => await Store.DeleteAsync(key, None));
        Assert.Equal(0, CountStaged());
    }

    [Fact]
    public async Task Keys_have_a_greatest_length()
    {
        var longest = string.Join('/', new string('a', 255), new string('b', 200), new string('c', 55));
        Assert.Equal(512, longest.Length);
        Assert.True(await Store.PutAsync(longest, new byte[1], None));
        Assert.Equal([longest], await KeysAsync(""));
        await RefusesAsync(FaultReason.InvalidArgument, async () => await Store.PutAsync(longest + "c", new byte[1], None));
        await RefusesAsync(FaultReason.InvalidArgument, async () => await Store.PutAsync(new string('a', 256), new byte[1], None));
    }

    [Fact]
    public async Task A_writer_that_is_only_disposed_leaves_nothing()
    {
        await using (var writer = await Store.CreateAsync(None))
        {
            await writer.WriteAsync(new byte[1000], None);
            Assert.Equal(1, CountStaged());
        }
        Assert.Equal(0, CountStaged());
        Assert.Empty(await KeysAsync(""));
    }

    [Fact]
    public async Task A_spent_writer_does_nothing_more()
    {
        var writer = await Store.CreateAsync(None);
        await writer.WriteAsync(new byte[10], None);
        Assert.True(await writer.PublishAsync("one", None));
        await RefusesAsync(FaultReason.FailedPrecondition, async () => await writer.PublishAsync("two", None));
        await RefusesAsync(FaultReason.FailedPrecondition, async () => await writer.WriteAsync(new byte[1], None));
        await writer.DisposeAsync();
        await writer.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await writer.WriteAsync(new byte[1], None));
        Assert.Equal(["one"], await KeysAsync(""));
        Assert.Equal(10, (await Store.FindAsync("one", None))!.Value.Length);
    }

    [Fact]
    public async Task Cancelled_calls_do_nothing()
    {
        await Store.PutAsync("c/1", new byte[10], None);
        await using (var writer = await Store.CreateAsync(None))
        {
            var cancelled = new CancellationToken(canceled: true);
            await CancelsAsync(async () => await Store.CreateAsync(cancelled));
            await CancelsAsync(async () => await Store.ReadAsync("c/1", 0, new byte[1], cancelled));
            await CancelsAsync(async () => await Store.FindAsync("c/1", cancelled));
            await CancelsAsync(async () => await Store.DeleteAsync("c/1", cancelled));
            await CancelsAsync(async () => await Store.GetFreeBytesAsync(cancelled));
            await CancelsAsync(async () => await Store.ListAsync("", cancelled).GetAsyncEnumerator(None).MoveNextAsync());
            await CancelsAsync(async () => await writer.PublishAsync("c/2", cancelled));
            // It failed once, so it can only be disposed.
            await RefusesAsync(FaultReason.FailedPrecondition, async () => await writer.PublishAsync("c/2", None));
        }
        Assert.Equal(["c/1"], await KeysAsync(""));
        Assert.Equal(0, CountStaged());
    }

    [Fact]
    public async Task Readers_and_deleters_do_not_disturb_each_other()
    {
        var content = RandomNumberGenerator.GetBytes(5000);
        await Task.WhenAll(Enumerable.Range(0, 4).Select(worker => Task.Run(async () =>
        {
            var random = new Random(worker);
            for (var i = 0; i < 150; i++)
            {
                var key = $"churn/{random.Next(5)}";
                switch (random.Next(3))
                {
                    case 0:
                        await Store.PutAsync(key, content, None);
                        break;
                    case 1:
                        await Store.DeleteAsync(key, None);
                        break;
                    default:
                        try
                        {
                            var bytes = new byte[content.Length];
                            await Store.ReadExactlyAsync(key, 0, bytes, None);
                            Assert.Equal(content, bytes);
                        }
                        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
                        {
                            // Deleted meanwhile.
                        }
                        break;
                }
            }
        })));
        for (var i = 0; i < 5; i++)
        {
            await Store.DeleteAsync($"churn/{i}", None);
            await RefusesAsync(FaultReason.NotFound, async () => await Store.ReadAsync($"churn/{i}", 0, new byte[1], None));
        }
    }

    protected async Task<List<string>> KeysAsync(string prefix)
    {
        var keys = new List<string>();
        await foreach (var info in Store.ListAsync(prefix, None))
        {
            keys.Add(info.Key);
        }
        keys.Sort(StringComparer.Ordinal);
        return keys;
    }

    protected static async Task<FaultException> RefusesAsync(FaultReason reason, Func<Task> action)
    {
        var fault = await Assert.ThrowsAsync<FaultException>(action);
        Assert.Equal(reason, fault.Reason);
        return fault;
    }

    private static async Task CancelsAsync(Func<Task> action) => await Assert.ThrowsAnyAsync<OperationCanceledException>(action);
}
