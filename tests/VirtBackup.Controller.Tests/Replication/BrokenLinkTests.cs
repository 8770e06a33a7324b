using System.Runtime.CompilerServices;
using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;
using static VirtBackup.Controller.Tests.StoreTests;

namespace VirtBackup.Controller.Tests.Replication;

/// <summary>What becomes of asks and runs when links break, are taken away, or lead to somebody who lies.</summary>
public sealed class BrokenLinkTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    [Fact]
    public async Task A_revoked_peer_is_offered_nothing_any_more_and_loses_what_it_was_offered()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await a.OfferAsync(b);
        await BackUpAsync(await a.World.EnrollAsync(), NewDisk());
        await PassAsync(a, b, () => IsConnectedAsync(b, "a"));
        await a.Role.PeerAdmin.RevokePeerAsync(new RevokePeerRequest { Name = "b" }, World.Token);
        await PassAsync(a, b, async () => !await IsConnectedAsync(b, "a"));
        var pulling = b.WaitAsync(await b.StartPullAsync("a"));
        await PassAsync(a, b, () => Task.FromResult(pulling.IsCompleted));
        Assert.Equal((JobState.Failed, ErrorReason.Unavailable), ((await pulling).State, (await pulling).FailureReason));
        Assert.Empty(await b.ListAsync());
    }

    [Fact]
    public async Task A_link_that_breaks_puts_a_run_off_by_minutes_not_by_its_interval()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        await BackUpAsync(await a.World.EnrollAsync(), NewDisk());
        var isBad = true;
        b.World.Peers.CutAfter = () => isBad ? 100_000 : long.MaxValue;
        await b.SetRuleAsync("a", static rule => (rule.Paused, rule.EveryMinutes) = (false, 600));
        await PassAsync(a, b, async () => (await RuleAsync(b)).Problem.Length > 0);
        Assert.Empty(await b.ListAsync());
        isBad = false;
        var broken = b.World.Time.GetUtcNow();
        await PassAsync(a, b, async () => (await b.ListAsync()).Count == 1);
        Assert.InRange(b.World.Time.GetUtcNow() - broken, TimeSpan.Zero, TimeSpan.FromMinutes(15));
        await PassAsync(a, b, async () => (await RuleAsync(b)).Problem.Length == 0);
    }

    [Fact]
    public async Task Machines_that_were_not_asked_for_are_not_believed()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        var agent = await a.World.EnrollAsync();
        await BackUpAsync(agent, NewDisk());
        var other = Id16.Create(SystemEntropy.Instance).ToString();
        b.World.Peers.Falsify = answer =>
        {
            foreach (var point in answer.Points?.Points ?? [])
            {
                point.VmId = other;
            }
        };
        await b.SetRuleAsync("a", rule => rule.Vms.Add(agent.VmId.ToString()));
        var job = await b.WaitAsync(await b.StartPullAsync("a"));
        Assert.Equal((JobState.Failed, ErrorReason.Malformed), (job.State, job.FailureReason));
        Assert.Empty((await b.Role.Admin.ListVirtualMachinesAsync(new ListVirtualMachinesRequest(), World.Token)).VirtualMachines);
        Assert.Empty((await RuleAsync(b)).Machines);
        b.World.Peers.Falsify = null;
        Assert.Equal(1UL, (await b.PullAsync("a")).PointsReceived);
    }

    [Fact]
    public async Task A_rules_locks_reach_the_provider_of_the_receivers_store()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b", retains: true);
        await b.JoinAsync(a);
        await BackUpAsync(await a.World.EnrollAsync(), NewDisk());
        await b.SetRuleAsync("a", static rule => rule.LockDays = 3);
        Assert.Equal(1UL, (await b.PullAsync("a")).PointsReceived);
        await PassAsync(a, b, async () => (await b.Role.Admin.GetStatusAsync(World.Token)).ProviderLocks is { PointsLocked: 1, PointsEnforced: 1, ObjectsWaiting: 0 });
        Assert.All(b.World.Retaining!.Until.Values, until => Assert.InRange(DateTimeOffset.FromUnixTimeMilliseconds(until) - b.World.Time.GetUtcNow(), TimeSpan.FromDays(2), TimeSpan.FromDays(3)));
        Assert.NotEmpty(b.World.Retaining.Until);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Whoever_asks_learns_that_the_stream_broke_wherever_the_ask_was(bool whileSending)
    {
        for (var i = 0; i < 50; i++)
        {
            await using var stream = new BreakingStream(whileSending);
            var conversation = new Conversation(stream, NoPace.Instance, "the peer");
            var asks = Enumerable.Range(0, Conversation.AsksMax + 3).Select(_ => conversation.AskOnceAsync(new Ask { ListPoints = new ListPointsAsk() }, World.Token).AsTask()).ToList();
            await stream.Sending.WaitAsync(Patience, World.Token);
            stream.Break();
            foreach (var ask in asks)
            {
                var fault = await Assert.ThrowsAsync<FaultException>(() => ask.WaitAsync(Patience, World.Token));
                Assert.Equal(FaultReason.Unavailable, fault.Reason);
            }
            Assert.True(conversation.IsBroken);
            Assert.Equal(0, conversation.Outstanding);
            await conversation.DisposeAsync();
        }
    }

    private static async Task<ReplicationStatus> RuleAsync(Site site) =>
        (await site.Role.Rules.GetReplicationStatusAsync(new GetReplicationStatusRequest(), World.Token)).Rules[0];

    private static async Task<bool> IsConnectedAsync(Site site, string peer) =>
        (await site.Role.PeerAdmin.GetPeerAsync(new GetPeerRequest { Name = peer }, World.Token)).Peer.Connected;

    /// <summary>Lets time pass at both sites until it is so.</summary>
    private static async Task PassAsync(Site a, Site b, Func<Task<bool>> isSo)
    {
        for (var i = 0; !await isSo(); i++)
        {
            Assert.True(i < 1500, "It did not happen.");
            a.World.Time.Advance(TimeSpan.FromSeconds(2));
            b.World.Time.Advance(TimeSpan.FromSeconds(2));
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, World.Token);
        }
    }

    /// <summary>A stream that answers nothing and breaks when it is told to: in the middle of a message, or between two.</summary>
    private sealed class BreakingStream(bool whileSending) : IDuplex<Ask, Answer>
    {
        private readonly TaskCompletionSource _sending = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _broken = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Sending => _sending.Task;

        public void Break() => _broken.TrySetException(new FaultException(FaultReason.Unavailable, "It broke."));

        public async ValueTask SendAsync(Ask message, CancellationToken cancellationToken)
        {
            _sending.TrySetResult();
            if (whileSending)
            {
                await _broken.Task.WaitAsync(cancellationToken);
            }
        }

        public ValueTask CompleteAsync() => ValueTask.CompletedTask;

        public async IAsyncEnumerable<Answer> ReceiveAsync([EnumeratorCancellation] CancellationToken cancellationToken)
        {
            await _broken.Task.WaitAsync(cancellationToken);
            yield break;
        }

        public ValueTask DisposeAsync()
        {
            Break();
            return ValueTask.CompletedTask;
        }
    }
}
