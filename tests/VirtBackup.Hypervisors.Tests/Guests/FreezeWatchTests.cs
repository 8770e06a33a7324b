using System.IO.Pipelines;
using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Tests.Guests;

/// <summary>The watchdog lets a guest go on when the other process dies or is late, and only then.</summary>
public sealed class FreezeWatchTests
{
    private static readonly FreezeTarget Target = new("fake", Id16.Create(SystemEntropy.Instance), "web1", "/nowhere", new Dictionary<string, string>());
    private readonly Pipe orders = new();
    private readonly Pipe answers = new();
    private readonly List<string> log = [];
    private readonly FakeRelease release = new();
    private int ended;

    private Task<bool> RunAsync() => new FreezeWatch([release], TimeProvider.System, log.Add, () =>
    {
        ended++;
        release.IsHeld = false;
    }).RunAsync(orders.Reader.AsStream(), answers.Writer.AsStream(), default);

    private async Task<bool> SayAsync(WatchOrder order)
    {
        await orders.Writer.WriteAsync((byte[])[.. JsonSerializer.SerializeToUtf8Bytes(order), (byte)'\n']);
        using var reader = new StreamReader(answers.Reader.AsStream(leaveOpen: true), bufferSize: 1, leaveOpen: true);
        return JsonSerializer.Deserialize<WatchAnswer>((await reader.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(30)))!)!.Acted;
    }

    [Fact]
    public async Task What_is_disarmed_in_time_is_left_alone()
    {
        var run = RunAsync();
        Assert.False(await SayAsync(new WatchOrder(60_000, Target)));
        Assert.False(await SayAsync(new WatchOrder(60_000)));
        Assert.False(await SayAsync(new WatchOrder(0, Disarm: true)));
        Assert.True(await run.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal(0, release.Tries);
    }

    [Fact]
    public async Task The_death_of_the_other_process_lets_the_guest_go_on_after_as_many_tries_as_it_takes()
    {
        release.Refusals = 2;
        var run = RunAsync();
        await SayAsync(new WatchOrder(60_000, Target));
        await orders.Writer.CompleteAsync();
        Assert.True(await run.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal((3, 0), (release.Tries, ended));
        Assert.Contains("web1: The guest goes on.", log);
    }

    [Fact]
    public async Task A_process_that_is_late_is_told_so_and_one_that_hangs_is_ended()
    {
        var run = RunAsync();
        await SayAsync(new WatchOrder(50, Target));
        while (release.Tries == 0)
        {
            await Task.Delay(10);
        }
        Assert.True(await SayAsync(new WatchOrder(0, Disarm: true)));
        Assert.True(await run.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal((1, 0), (release.Tries, ended));
    }

    [Fact]
    public async Task A_process_that_holds_on_to_the_guest_is_ended()
    {
        release.IsHeld = true;
        var run = RunAsync();
        await SayAsync(new WatchOrder(50, Target));
        while (Volatile.Read(ref ended) == 0)
        {
            await Task.Delay(50);
        }
        await orders.Writer.CompleteAsync();
        Assert.True(await run.WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal(1, ended);
    }

    [Fact]
    public async Task Whoever_dies_before_it_has_anything_to_be_watched_leaves_nothing_to_do()
    {
        await orders.Writer.CompleteAsync();
        Assert.True(await RunAsync().WaitAsync(TimeSpan.FromSeconds(30)));
        Assert.Equal(0, release.Tries);
    }

    private sealed class FakeRelease : IGuestRelease
    {
        public string Kind => "fake";

        public bool NeedsHolderGone => true;

        public int Tries { get; private set; }

        public int Refusals { get; set; }

        public bool IsHeld { get; set; }

        public ValueTask<ReleaseOutcome> TryReleaseAsync(FreezeTarget target, Action<string> log, CancellationToken cancellationToken)
        {
            Assert.Equal((Target.Name, Target.Machine, Target.Folder), (target.Name, target.Machine, target.Folder));
            return new(++Tries <= Refusals || IsHeld ? ReleaseOutcome.Again : ReleaseOutcome.Released);
        }
    }
}
