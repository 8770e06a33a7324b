using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Tests.Conformance;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>Disks of a machine that go to another storage of the same host.</summary>
public sealed class MoveTests
{
    private const int DiskBytes = 16 << 20;

    [Fact]
    public async Task A_busy_machine_moves_and_its_backups_go_on()
    {
        await using var lab = await CaptureLab.BootAsync();
        var first = CaptureLab.NewPoint();
        var full = await lab.BackUpAsync(first);
        var sources = lab.Vm.Disks.Select(disk => disk.Path).ToList();
        var target = lab.Scratch.File("new/place");
        var request = new StorageMoveRequest(lab.Machine.Uuid, target);
        var plan = await lab.Driver.CheckMoveAsync(request, default);
        Assert.True(plan is { Refused: false, Running: true, Disks.Count: 2 }, string.Join('\n', plan.Findings));
        Assert.InRange(plan.DataBytes, 4 << 20, 256 << 20);
        Assert.InRange((await lab.Driver.SampleMoveAsync(plan, default)).Bytes, 1, 192 << 20);

        // What would not fit breaks off, and what is cancelled, too; the guest writes on.
        await lab.Vm.ExecAsync("(i=0; while [ ! -e /data/end ]; do i=$((i+1)); echo $i > /data/count; dd if=/dev/urandom of=/data/load bs=64k count=4 seek=$((i%64)) conv=notrunc,fsync 2>/dev/null; done; echo done > /data/done) >/dev/null 2>&1 &");
        await using (var small = await SmallFolder.MountAsync(2))
        {
            var refused = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.MoveAsync(request with { Target = small.Path }, default));
            Assert.Contains("Free space there", refused.Message, StringComparison.Ordinal);
            await small.ResizeAsync(400);
            var once = 0;
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.MoveAsync(request with
            {
                Target = small.Path, BytesPerSecondMax = 1 << 20,
                Progress = progress => { if (progress is { Phase: "copying", BytesDone: > 0 } && once++ == 0) { small.Fill(); } },
            }, default));
            Assert.Equal(FaultReason.DeviceFull, fault.Reason);
            Assert.Equal(["ballast"], Directory.GetFileSystemEntries(small.Path).Select(Path.GetFileName));
        }
        using (var stop = new CancellationTokenSource())
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await lab.Driver.MoveAsync(request with
            {
                BytesPerSecondMax = 2 << 20, Progress = progress => { if (progress.BytesDone > 1 << 20) { stop.Cancel(); } },
            }, stop.Token));
        }
        Assert.False(Directory.Exists(lab.Scratch.File("new")));
        await lab.AssertCleanAsync();

        var outcome = await lab.Driver.MoveAsync(request, default);
        TestContext.Current.SendDiagnosticMessage($"moved {outcome.Disks.Sum(disk => disk.BytesMoved)} bytes, stood still {outcome.Interruption!.Value.TotalMilliseconds} ms");
        Assert.InRange(outcome.Interruption!.Value.TotalSeconds, 0.0001, 5);
        Assert.Empty(outcome.KeptPaths);
        Assert.All(sources, source => Assert.False(File.Exists(source)));
        await lab.AssertCleanAsync();
        await AssertRunsOnAsync(lab, outcome);
        var second = CaptureLab.NewPoint();
        var counted = (await lab.Vm.ExecAsync("touch /data/end; while [ ! -e /data/done ]; do sleep 0.1; done; sync; cat /data/count")).EnsureSuccess();
        Assert.InRange(int.Parse(counted.Trim()), 2, int.MaxValue);
        await AssertOnlyChangesAsync(lab, second, first, full);
        Assert.DoesNotContain("I/O error", lab.Vm.Console, StringComparison.OrdinalIgnoreCase);

        // Once more, the old images kept; then started by what the agent says of it.
        var back = await lab.Driver.MoveAsync(new StorageMoveRequest(lab.Machine.Uuid, lab.Scratch.File("third")) { KeepSource = true }, default);
        Assert.Equal(2, back.KeptPaths.Count(File.Exists));
        Assert.All(outcome.Disks, disk => Assert.False(File.Exists(disk.Move.NewPath)));
        await AssertRunsOnAsync(lab, back);
        await lab.Vm.QuitAsync();
        var script = await File.ReadAllTextAsync(Path.Combine(lab.Scratch.File("third"), "lab.launch.sh"));
        Assert.All(back.Disks, disk => Assert.Contains(disk.Move.NewPath, script, StringComparison.Ordinal));
        Assert.DoesNotContain(target, script, StringComparison.Ordinal);

        // Off, with what the images keep besides their disks.
        var cold = await lab.Driver.MoveAsync(request, default);
        Assert.Null(cold.Interruption);
        Follow(lab, cold);
        Assert.All(back.Disks, disk => Assert.False(File.Exists(disk.Move.NewPath)));
        await lab.Vm.StartAgainAsync();
        await lab.Vm.WaitForAgentAsync();
        await lab.WriteAsync("/root/after", 200);
        var third = CaptureLab.NewPoint();
        var (capture, reference) = await lab.CutWithReferenceAsync(lab.Request(third, await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { second }, default)));
        await using (capture)
        {
            Assert.True(capture.Disks.Single(disk => disk.Disk.Format == "qcow2").ChangedOnly);
            await lab.ReadAsync(capture);
            lab.AssertContent(reference);
            await capture.CommitAsync(default);
        }
    }

    [Fact]
    public async Task A_killed_move_is_undone_until_the_change_over_and_finished_after_it()
    {
        await using var lab = await StartAsync();
        var first = CaptureLab.NewPoint();
        await lab.BackUpAsync(first);
        var target = lab.Scratch.File("new");
        var sources = lab.Vm.Disks.Select(disk => disk.Path).ToList();

        // The agent dies while it copies.
        await BreakOffAsync(lab, target, "copying", () => Task.CompletedTask);
        Assert.All(sources, source => Assert.True(File.Exists(source)));
        Assert.False(Directory.Exists(target));
        Assert.Empty((await lab.Vm.QmpAsync("query-jobs")).EnumerateArray());
        await lab.AssertCleanAsync();

        // It dies, and has told nobody of the change-over yet; QEMU waits.
        await BreakOffAsync(lab, target, "changing over", async () =>
        {
            var journal = await EnterPivotAsync(lab);
            await lab.Vm.QmpAsync("stop");
            Assert.Equal(2, journal["Disks"]!.AsArray().Count);
        });
        Assert.Equal("running", (await lab.Vm.QmpAsync("query-status")).GetProperty("status").GetString());
        Assert.False(Directory.Exists(target));
        await lab.AssertCleanAsync();

        // One disk has changed over already.
        await BreakOffAsync(lab, target, "changing over", async () =>
        {
            var journal = await EnterPivotAsync(lab);
            await lab.Vm.QmpAsync("stop");
            foreach (var disk in journal["Disks"]!.AsArray())
            {
                var (node, job, bitmap) = (disk!["Node"]!.GetValue<string>(), disk["Job"]!.GetValue<string>(), disk["Bitmaps"]![0]!.GetValue<string>());
                await lab.Vm.QmpAsync("block-dirty-bitmap-add", "{\"node\":\"" + job + "\",\"name\":\"" + bitmap + "\",\"persistent\":true,\"disabled\":true}");
                await lab.Vm.QmpAsync("block-dirty-bitmap-merge", "{\"node\":\"" + job + "\",\"target\":\"" + bitmap + "\",\"bitmaps\":[{\"node\":\"" + node + "\",\"name\":\"" + bitmap + "\"}]}");
            }
            await lab.Vm.QmpAsync("job-complete", "{\"id\":\"" + journal["Disks"]![0]!["Job"]!.GetValue<string>() + "\"}");
            for (var concluded = false; !concluded; await Task.Delay(10))
            {
                concluded = (await lab.Vm.QmpAsync("query-jobs")).EnumerateArray().Any(job => job.GetProperty("status").GetString() == "concluded");
            }
        });
        Assert.Equal("running", (await lab.Vm.QmpAsync("query-status")).GetProperty("status").GetString());
        Assert.All(sources, source => Assert.False(File.Exists(source)));
        foreach (var disk in lab.Vm.Disks)
        {
            lab.Vm.FollowMove(disk.DeviceId, Path.Combine(target, Path.GetFileName(disk.Path)));
        }
        await lab.AssertCleanAsync();
        Assert.True(await lab.BackUpAsync(CaptureLab.NewPoint(), first) < DiskBytes / 2);
    }

    [Fact]
    public async Task A_machine_that_is_killed_while_it_moves_has_its_old_disks()
    {
        await using var lab = await StartAsync();
        var before = await lab.ReferenceAsync();
        await BreakOffAsync(lab, lab.Scratch.File("new"), "copying", () => lab.Vm.KillAsync());
        Assert.False(Directory.Exists(lab.Scratch.File("new")));
        Assert.Equal(before, await lab.ReferenceAsync());

        // Journals of a change-over that its process did not outlive.
        await lab.Vm.StartAgainAsync();
        await BreakOffAsync(lab, lab.Scratch.File("new"), "changing over", async () =>
        {
            await EnterPivotAsync(lab);
            await lab.Vm.KillAsync();
        });
        Assert.False(Directory.Exists(lab.Scratch.File("new")));
        Assert.Equal(before, await lab.ReferenceAsync());
        var refused = await lab.Driver.CheckMoveAsync(new StorageMoveRequest(lab.Machine.Uuid, lab.Scratch.File("new")) { Disks = [new DiskMove("none")], Format = "vmdk" }, default);
        Assert.True(refused.Refused);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.MoveAsync(new StorageMoveRequest(lab.Machine.Uuid, "/dev/null"), default));
        Assert.Contains("name a folder", fault.Message, StringComparison.Ordinal);
    }

    private static Task<CaptureLab> StartAsync() => CaptureLab.StartAsync(new LabVmOptions
    {
        Disks = [new LabDiskOptions { NodeName = "one", Size = DiskBytes }, new LabDiskOptions { NodeName = "two", Size = DiskBytes }],
    });

    /// <summary>A move stops for ever at a phase, something happens, and an agent that starts now finds it so.</summary>
    private static async Task BreakOffAsync(CaptureLab lab, string target, string phase, Func<Task> happens)
    {
        List<string> after = [];
        await BrokenMove.RunAsync(lab.Driver, new StorageMoveRequest(lab.Machine.Uuid, target), phase, 1 << 20, async () =>
        {
            await happens();
            await lab.Driver.ReleaseGuestsAsync(default);
            Assert.Empty(Directory.EnumerateFiles(lab.Options.StateFolder!, "moving-*"));
            after = lab.Vm.HasExited ? [] : Directory.GetFiles(lab.Vm.Directory, "*.qcow2").Order().ToList();
        });
        Assert.Equal(after, lab.Vm.HasExited ? [] : Directory.GetFiles(lab.Vm.Directory, "*.qcow2").Order().ToList());
    }

    // What the mover does before it stops the guest.
    private static async Task<JsonNode> EnterPivotAsync(CaptureLab lab)
    {
        var path = Assert.Single(Directory.GetFiles(lab.Options.StateFolder!, "moving-*"));
        var journal = JsonNode.Parse(await File.ReadAllTextAsync(path))!;
        journal["Stage"] = 1;
        var nodes = await lab.Vm.QmpAsync("query-named-block-nodes", """{"flat":true}""");
        foreach (var disk in journal["Disks"]!.AsArray())
        {
            var node = nodes.EnumerateArray().Single(node => node.GetProperty("node-name").GetString() == disk!["Node"]!.GetValue<string>());
            var names = node.TryGetProperty("dirty-bitmaps", out var bitmaps) ? bitmaps.EnumerateArray().Where(bitmap => bitmap.TryGetProperty("name", out _)).Select(bitmap => bitmap.GetProperty("name").GetString()!) : [];
            disk!["Bitmaps"] = new JsonArray([.. names.Select(name => (JsonNode)name)]);
        }
        await File.WriteAllTextAsync(path, journal.ToJsonString());
        var marks = Directory.CreateDirectory(Path.Combine(lab.Options.FleeceFolder, $"virtbackup-{lab.Machine.Uuid}-move-test")).FullName;
        await File.WriteAllTextAsync(Path.Combine(marks, "moving"), path);
        await File.WriteAllTextAsync(Path.Combine(marks, "stopped"), "");
        return journal;
    }

    private static void Follow(CaptureLab lab, StorageMoveOutcome outcome)
    {
        foreach (var disk in outcome.Disks)
        {
            lab.Vm.FollowMove(disk.Move.Disk.Name, disk.Move.NewPath);
        }
    }

    private static async Task AssertRunsOnAsync(CaptureLab lab, StorageMoveOutcome outcome)
    {
        Follow(lab, outcome);
        var files = (await lab.Vm.QmpAsync("query-block")).EnumerateArray().Where(device => device.TryGetProperty("inserted", out _)).Select(device => device.GetProperty("inserted").GetProperty("file").GetString());
        Assert.Equal(outcome.Disks.Select(disk => disk.Move.NewPath).Order(), files.Order());
        Assert.Equal("running", (await lab.Vm.QmpAsync("query-status")).GetProperty("status").GetString());
        await lab.Vm.ExecAsync("sync");
    }

    private static async Task AssertOnlyChangesAsync(CaptureLab lab, Id16 point, Id16 basePoint, long full)
    {
        var (capture, reference) = await lab.CutWithReferenceAsync(lab.Request(point, basePoint));
        await using (capture)
        {
            Assert.All(capture.Disks, disk => Assert.True(disk.ChangedOnly, disk.Reason));
            Assert.InRange(await lab.ReadAsync(capture), 1, full * 3 / 4);
            lab.AssertContent(reference);
            // The command line that is stored names the images where they are now, once.
            var native = System.Text.Encoding.UTF8.GetString(capture.Configuration.Native.Span);
            Assert.All(lab.Vm.Disks, disk => Assert.Contains(disk.Path, native, StringComparison.Ordinal));
            Assert.DoesNotContain(lab.Vm.Directory + "/root.qcow2", native, StringComparison.Ordinal);
            Assert.Equal(1, native.Split($"id={lab.Vm.Disks[0].DeviceId},").Length - 1);
            await capture.CommitAsync(default);
        }
    }
}
