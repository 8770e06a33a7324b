using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Testing.Platforms;

namespace VirtBackup.Agent.Tests;

/// <summary>Whole runs on platforms that are not there yet: what the agent remembers is enough to track changes by tokens.</summary>
public sealed class PlatformTests
{
    private const int KilledEvery = 12;

    public static TheoryData<Platform> Platforms => [.. Enum.GetValues<Platform>()];

    [Theory]
    [MemberData(nameof(Platforms))]
    public async Task A_chain_of_runs_is_incremental_and_every_point_comes_back(Platform platform)
    {
        using var rig = new PlatformRig(platform, 1);
        var random = new Random(1);
        RequireMode(await rig.BackupAsync(whileReading: random), changedOnly: false);
        for (var i = 0; i < 3; i++)
        {
            rig.Write(random);
            RequireMode(await rig.BackupAsync(whileReading: random), changedOnly: true);
            Assert.Equal(0, rig.Views);
        }
        RequireMode(await rig.BackupAsync(options: new Protocol.Common.V1.BackupOptions { Full = true }), changedOnly: false);
        rig.Write(random);
        RequireMode(await rig.BackupAsync(), changedOnly: true);
        await rig.RequireAllRestorableAsync();
        Assert.InRange(rig.HyperV.Find(rig.Id).ReferencePoints.Count, 0, 1);
    }

    [Fact]
    public async Task A_stream_is_read_in_order_with_chunks_of_one_length_too()
    {
        using var first = new PlatformRig(Platform.VSphereExport, 2);
        using var rig = new PlatformRig(Platform.VSphereExport, 2, first.Context.Tools with { Shape = MapShape.Of(Chunker.Fixed, 12) });
        var random = new Random(2);
        await rig.BackupAsync(whileReading: random);
        rig.Write(random);
        RequireMode(await rig.BackupAsync(whileReading: random), changedOnly: true);
        await rig.RequireAllRestorableAsync();
    }

    [Theory]
    [MemberData(nameof(Platforms))]
    public async Task Lost_tracking_and_lost_memory_cost_a_full_read_and_nothing_else(Platform platform)
    {
        using var rig = new PlatformRig(platform, 3);
        var random = new Random(3);
        await rig.BackupAsync();
        rig.Write(random);
        rig.LoseTracking();
        RequireMode(await rig.BackupAsync(), changedOnly: false);
        rig.Write(random);
        RequireMode(await rig.BackupAsync(), changedOnly: true);
        rig.Write(random);
        rig.ForgetBases();
        RequireMode(await rig.BackupAsync(), changedOnly: false);
        rig.Write(random);
        RequireMode(await rig.BackupAsync(), changedOnly: true);
        await rig.RequireAllRestorableAsync();
    }

    [Theory]
    [MemberData(nameof(Platforms))]
    public async Task An_agent_killed_at_any_call_leaves_what_the_next_run_settles(Platform platform)
    {
        // Every run looks at other calls.
        var over = false;
        for (var (at, after) = (Random.Shared.Next(1, KilledEvery + 1), Random.Shared.Next(2) == 0); !over; at += KilledEvery, after = !after)
        {
            TestContext.Current.TestOutputHelper?.WriteLine($"Killed {(after ? "behind" : "before")} the effect of call {at}");
            using var rig = new PlatformRig(platform, at);
            var random = new Random(at);
            await rig.BackupAsync();
            rig.Write(random);
            var link = new ServerLink { DiesAt = at, DiesAfterEffect = after };
            try
            {
                await rig.BackupAsync(link);
            }
            catch (FaultException fault)
            {
                Assert.True(link.HasDied, fault.Message);
            }
            over = !link.HasDied;
            rig.Write(random);
            RequireMode(await rig.BackupAsync(whileReading: random), changedOnly: true);
            Assert.Equal(0, rig.Views);
            Assert.InRange(rig.HyperV.Find(rig.Id).ReferencePoints.Count, 0, 1);
            await rig.RequireAllRestorableAsync();
        }
    }

    [Theory]
    [MemberData(nameof(Platforms))]
    public async Task A_commit_of_unknown_outcome_is_settled_by_the_next_run(Platform platform)
    {
        using var rig = new PlatformRig(platform, 4);
        var random = new Random(4);
        await rig.BackupAsync();
        rig.Write(random);
        rig.Store.Faults.CommitAnswersLost = 1;
        rig.Store.Faults.OnCommit = () => rig.Store.Faults.FailCalls(int.MaxValue);
        var fault = await Assert.ThrowsAsync<FaultException>(() => rig.BackupAsync());
        Assert.Equal(FaultReason.Unavailable, fault.Reason);
        Assert.Equal(0, rig.Views);
        rig.Store.Faults.OnCommit = null;
        rig.Store.Faults.FailCalls(0);
        rig.Write(random);
        var next = await rig.BackupAsync();
        RequireMode(next, changedOnly: true);
        Assert.Equal(3, rig.Store.Points.Count);
        Assert.InRange(rig.HyperV.Find(rig.Id).ReferencePoints.Count, 0, 1);
        await rig.RequireAllRestorableAsync();
    }

    [Theory]
    [MemberData(nameof(Platforms))]
    public async Task A_query_that_breaks_off_makes_no_point_and_leaves_no_view(Platform platform)
    {
        using var rig = new PlatformRig(platform, 5);
        var random = new Random(5);
        await rig.BackupAsync();
        rig.Write(random);
        var queries = 0;
        var link = new ServerLink
        {
            Refusal = (operation, _) => operation is "QueryChangedDiskAreas" or "GetVirtualDiskChanges" && ++queries > 3
                ? new FaultException(FaultReason.HypervisorUnavailable, "The server is busy.") : null,
        };
        var fault = await Assert.ThrowsAsync<FaultException>(() => rig.BackupAsync(link));
        Assert.Equal(FaultReason.HypervisorUnavailable, fault.Reason);
        Assert.Single(rig.Store.Points);
        Assert.Equal(0, rig.Views);
        RequireMode(await rig.BackupAsync(), changedOnly: true);
        await rig.RequireAllRestorableAsync();
    }

    private static void RequireMode(BackupResult result, bool changedOnly) =>
        Assert.All(result.Disks, disk => Assert.True(disk.ChangedOnly == changedOnly, $"{disk.Name}: {disk.Reason}"));
}
