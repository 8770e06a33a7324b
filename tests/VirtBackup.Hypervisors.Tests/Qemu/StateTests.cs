using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Testing.Lab;
using static VirtBackup.Hypervisors.Tests.Qemu.StartedMachine;

namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class StateTests(ITestOutputHelper output)
{
    private const int ChunkBytes = 16 << 10;

    [Fact]
    public async Task A_machine_goes_on_from_its_running_state_with_its_disks_of_the_same_instant()
    {
        await using var lab = await CaptureLab.BootAsync();
        (await lab.Vm.ExecAsync("echo first > /run/m; echo first > /data/m; sync; (i=0; while :; do i=$((i+1)); echo $i > /run/count; sleep 0.1; done) >/dev/null 2>&1 &")).EnsureSuccess();
        var before = await TellAsync(async line => (await lab.Vm.ExecAsync(line)).EnsureSuccess());
        var capabilities = (await lab.Vm.QmpAsync("query-migrate-capabilities")).GetRawText();
        var point = CaptureLab.NewPoint();
        var live = await CaptureAsync(lab, StateCapture.Live, point, null);
        Assert.Equal(capabilities, (await lab.Vm.QmpAsync("query-migrate-capabilities")).GetRawText());
        await lab.AssertCleanAsync();

        // What an idle guest changes is little, and lies where it lay.
        await using (var again = await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint(), point) with { WithState = StateCapture.Live }, default))
        {
            Assert.All(again.Disks, disk => Assert.True(disk.ChangedOnly));
            var (all, fresh) = (live.State.Chunks.Count, await live.State.CountNewAsync(again.State!));
            output.WriteLine($"{fresh} of {all} chunks of {ChunkBytes >> 10} KiB are new in the second");
            Assert.True(fresh <= all * 0.15, $"{fresh} of {all} chunks of memory are new though the guest was idle.");
            await again.AbandonAsync(default);
        }

        var stopped = await CaptureAsync(lab, StateCapture.Stopped, CaptureLab.NewPoint(), point);
        await lab.AssertCleanAsync();
        await lab.Vm.KillAsync();
        await RequireRefusedAsync(lab, live.Request with { KeepIdentity = false }, "same identity");
        await RequireRefusedAsync(lab, With(live.Request, "hypervisor", "QEMU 99.1.0"), "an older QEMU does not read");
        await RequireRefusedAsync(lab, With(live.Request, "machineType", "pc-q35-99.0"), "does not have the machine type");
        await RequireRefusedAsync(lab, With(live.Request, "memoryBytes", 1L << 50), "of memory");
        foreach (var (kept, marker) in new[] { (live, "first"), (stopped, "later") })
        {
            lab.GoBack(kept.Content);
            Assert.DoesNotContain(await lab.Driver.CheckRestoreAsync(kept.Request, default), finding => finding.Severity == FindingSeverity.Blocks);
            var restored = await RestoreAsync(lab, kept.Request, kept.State);
            try
            {
                Assert.True(restored.Running);
                var after = await TellAsync(line => ShellAsync(restored, line));
                Assert.Equal((marker, marker), (after.Memory, after.Disk));
                Assert.True(after.Uptime >= before.Uptime && after.Count >= before.Count, $"{after} does not follow {before}.");
                await Task.Delay(500);
                Assert.True((await TellAsync(line => ShellAsync(restored, line))).Count > after.Count, "The guest's program does not run on.");
                Assert.Equal("", await ShellAsync(restored, "echo new > /data/m && sync"));
                Assert.Empty(Directory.GetDirectories(kept.Request.Folder, ".vb-*"));
            }
            finally
            {
                await KillAsync(restored);
            }
        }
    }

    private sealed record Kept(RestoreRequest Request, StoredState State, IReadOnlyDictionary<string, byte[]> Content);

    private async Task<Kept> CaptureAsync(CaptureLab lab, StateCapture mode, Core.Id16 point, Core.Id16? basis)
    {
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(point, basis) with { WithState = mode }, default);
        // The guest runs on, and what it does now is not in the point.
        (await lab.Vm.ExecAsync("echo later > /run/m; echo later > /data/m; sync")).EnsureSuccess();
        Assert.Equal(CaptureConsistency.Crash, capture.Consistency);
        Assert.Contains("same instant", capture.ConsistencyDetail, StringComparison.Ordinal);
        Assert.True(capture.State!.Paused > TimeSpan.Zero);
        output.WriteLine($"{mode}: {capture.ConsistencyDetail}");
        await lab.ReadAsync(capture);
        var state = await StoredState.ReadAsync(capture.State, lab.Scratch.File($"kept-{mode}"));
        var request = lab.RestoreRequest(capture, point, lab.Scratch.File($"back-{mode}"), lab.Vm.Name) with { KeepIdentity = true, State = state.Describe() };
        await capture.CommitAsync(default);
        return new Kept(request, state, lab.Keep());
    }

    private static async Task RequireRefusedAsync(CaptureLab lab, RestoreRequest request, string reason)
    {
        Assert.Contains(await lab.Driver.CheckRestoreAsync(request, default),
            finding => finding is { Item: "state", Severity: FindingSeverity.Blocks } && finding.Message.Contains(reason, StringComparison.Ordinal));
        await Assert.ThrowsAsync<Core.FaultException>(async () => await lab.Driver.BeginRestoreAsync(request, default));
        Assert.False(Directory.Exists(request.Folder));
    }

    private static RestoreRequest With(RestoreRequest request, string fact, JsonNode value)
    {
        var neutral = JsonNode.Parse(request.Configuration.Neutral.GetRawText())!.AsObject();
        neutral[fact] = value;
        return request with { Configuration = request.Configuration with { Neutral = JsonSerializer.SerializeToElement(neutral) } };
    }

    [Fact]
    public async Task What_was_killed_while_it_saved_a_guest_that_stands_still_is_undone_by_its_marks()
    {
        await using var lab = await CaptureLab.StartAsync();
        var before = (await lab.Vm.QmpAsync("query-migrate-capabilities")).GetRawText();
        var folder = Directory.CreateDirectory(Path.Combine(lab.Options.FleeceFolder, $"virtbackup-{lab.Machine.Uuid}-{CaptureLab.NewPoint().ToString()[..8]}")).FullName;
        await File.WriteAllTextAsync(Path.Combine(folder, "migration.json"), $$"""{"capabilities":{{before}},"max-bandwidth":134217728}""");
        await File.WriteAllTextAsync(Path.Combine(folder, "stopped"), "");
        await lab.Vm.QmpAsync("stop");
        await lab.Vm.QmpAsync("migrate-set-capabilities", """{"capabilities":[{"capability":"xbzrle","state":true}]}""");
        await lab.Vm.QmpAsync("migrate-set-parameters", """{"max-bandwidth":4096}""");
        await lab.Vm.QmpAsync("migrate", """{"uri":"exec:cat > /dev/null"}""");
        Assert.Equal("active", await StatusAsync("query-migrate", "setup"));

        // The guest first, with nobody's answer; the rest with the next settlement.
        await lab.Driver.ReleaseGuestsAsync(default);
        Assert.Equal("running", await StatusAsync("query-status", ""));
        Assert.False(File.Exists(Path.Combine(folder, "stopped")));
        await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Core.Id16>(), default);
        Assert.Equal(before, (await lab.Vm.QmpAsync("query-migrate-capabilities")).GetRawText());
        Assert.Equal(134217728, (await lab.Vm.QmpAsync("query-migrate-parameters")).GetProperty("max-bandwidth").GetInt64());
        await lab.AssertCleanAsync();

        async Task<string?> StatusAsync(string query, string passing)
        {
            for (var tries = 0; ; tries++)
            {
                var status = (await lab.Vm.QmpAsync(query)).GetProperty("status").GetString();
                if (status != passing || tries == 200)
                {
                    return status;
                }
                await Task.Delay(20);
            }
        }
    }

    [Fact]
    public async Task A_guest_that_stands_still_or_lacks_a_disk_and_a_folder_without_room_are_refused_before_it_is_touched()
    {
        await using var lab = await CaptureLab.StartAsync();
        var request = lab.Request(CaptureLab.NewPoint()) with { WithState = StateCapture.Live };
        var disk = lab.Vm.Disks[0].DeviceId;
        var absent = await Assert.ThrowsAsync<Core.FaultException>(async () => await lab.Driver.BeginCaptureAsync(request with { ExcludedDisks = new HashSet<string> { disk } }, default));
        Assert.Contains($"without its disk {disk}", absent.Message, StringComparison.Ordinal);
        lab.Options = lab.Options with { FleeceFreeBytesMin = 1L << 50 };
        var full = await Assert.ThrowsAsync<Core.FaultException>(async () => await lab.Driver.BeginCaptureAsync(request, default));
        Assert.Equal(Core.FaultReason.DeviceFull, full.Reason);
        lab.Options = lab.Options with { FleeceFreeBytesMin = 1 << 20 };
        await lab.Vm.QmpAsync("stop");
        var still = await Assert.ThrowsAsync<Core.FaultException>(async () => await lab.Driver.BeginCaptureAsync(request, default));
        Assert.Contains("stands still", still.Message, StringComparison.Ordinal);
        await lab.AssertCleanAsync();
    }

    [Fact]
    public async Task Memory_that_cannot_be_protected_is_refused_with_the_reason_and_saved_while_the_guest_stands_still()
    {
        await using var lab = await CaptureLab.StartAsync(new LabVmOptions { ExtraArguments = ["-object", "memory-backend-memfd,id=shared,size=256M,share=on", "-numa", "node,memdev=shared"] });
        var request = lab.Request(CaptureLab.NewPoint());
        try
        {
            await using var live = await lab.Driver.BeginCaptureAsync(request with { WithState = StateCapture.Live }, default);
            output.WriteLine("This kernel protects shared memory, too.");
        }
        catch (Core.FaultException fault)
        {
            Assert.Equal(Core.FaultReason.Unsupported, fault.Reason);
            Assert.Contains("--state stop", fault.Message, StringComparison.Ordinal);
            output.WriteLine(fault.Message);
        }
        await using var stopped = await lab.Driver.BeginCaptureAsync(request with { Point = CaptureLab.NewPoint(), WithState = StateCapture.Stopped }, default);
        Assert.True(stopped.State!.Memory.Disk.LengthBytes >= 256 << 20);
        Assert.Equal("running", (await lab.Vm.QmpAsync("query-status")).GetProperty("status").GetString());
    }

    private static async Task<RestoredMachine> RestoreAsync(CaptureLab lab, RestoreRequest request, StoredState state)
    {
        await using var restore = await lab.Driver.BeginRestoreAsync(request, default);
        foreach (var disk in restore.Disks)
        {
            await disk.WriteAsync(0, lab.Keep()[disk.Disk.Name], default);
        }
        await state.WriteAsync(restore.State);
        return await restore.CompleteAsync(default);
    }

    private sealed record Told(string Memory, string Disk, double Uptime, int Count);

    private static async Task<Told> TellAsync(Func<string, Task<string>> shell)
    {
        var words = (await shell("cat /run/m /data/m; cut -d' ' -f1 /proc/uptime; cat /run/count || echo 0")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        return new Told(words[0], words[1], double.Parse(words[2], CultureInfo.InvariantCulture), int.Parse(words[3], CultureInfo.InvariantCulture));
    }

    /// <summary>A state read in chunks, in a file and as names.</summary>
    private sealed class StoredState(DiskSummary memory, DiskSummary devices, string path)
    {
        private byte[] deviceBytes = [];

        public HashSet<string> Chunks { get; } = [];

        public static async Task<StoredState> ReadAsync(CapturedState state, string path)
        {
            var stored = new StoredState(state.Memory.Disk, state.Devices.Disk, path) { deviceBytes = new byte[state.Devices.Disk.LengthBytes] };
            await state.Devices.ReadAsync(0, stored.deviceBytes, default);
            using var file = File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite);
            RandomAccess.SetLength(file, state.Memory.Disk.LengthBytes);
            await foreach (var (offset, chunk) in ReadChunksAsync(state.Memory))
            {
                stored.Chunks.Add(NameOf(chunk));
                RandomAccess.Write(file, chunk, offset);
            }
            return stored;
        }

        public RestoreState Describe() => new(
            new RestoreDisk(memory.Id, memory.Name, memory.LengthBytes, "raw", (long)Chunks.Count * ChunkBytes), new RestoreDisk(devices.Id, devices.Name, devices.LengthBytes, "raw", devices.LengthBytes));

        public async Task<int> CountNewAsync(CapturedState state)
        {
            Assert.Equal(memory, state.Memory.Disk);
            var fresh = 0;
            await foreach (var (_, chunk) in ReadChunksAsync(state.Memory))
            {
                fresh += Chunks.Contains(NameOf(chunk)) ? 0 : 1;
            }
            return fresh;
        }

        public async Task WriteAsync(IReadOnlyList<IRestoredDisk> targets)
        {
            Assert.Equal([memory.Id, devices.Id], targets.Select(target => target.Disk.Id));
            using var file = File.OpenHandle(path);
            var buffer = new byte[1 << 20];
            for (long at = 0; at < memory.LengthBytes; at += buffer.Length)
            {
                var count = RandomAccess.Read(file, buffer.AsSpan(0, (int)Math.Min(buffer.Length, memory.LengthBytes - at)), at);
                if (buffer.AsSpan(0, count).ContainsAnyExcept((byte)0))
                {
                    await targets[0].WriteAsync(at, buffer.AsMemory(0, count), default);
                }
            }
            await targets[1].WriteAsync(0, deviceBytes, default);
        }

        private static string NameOf(byte[] chunk) => Convert.ToHexString(SHA256.HashData(chunk));

        private static async IAsyncEnumerable<(long Offset, byte[] Chunk)> ReadChunksAsync(ICapturedDisk memory)
        {
            long next = 0;
            await foreach (var extent in memory.ListExtentsAsync(default))
            {
                Assert.True(extent.Offset + extent.Length <= memory.Disk.LengthBytes);
                for (var offset = Math.Max(next, extent.Offset / ChunkBytes * ChunkBytes); offset < extent.End; offset += ChunkBytes)
                {
                    var chunk = new byte[Math.Min(ChunkBytes, memory.Disk.LengthBytes - offset)];
                    await memory.ReadAsync(offset, chunk, default);
                    next = offset + ChunkBytes;
                    if (chunk.AsSpan().ContainsAnyExcept((byte)0))
                    {
                        yield return (offset, chunk);
                    }
                }
            }
        }
    }
}
