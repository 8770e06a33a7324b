using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Images;

/// <summary>Restores onto, and in place of, the images of a machine that is configured by them.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class ExistingImageTests : IDisposable
{
    private const int Length = (3 << 20) + 777;
    private static readonly Id16 Machine = Id16.Create(SystemEntropy.Instance);
    private static readonly Id16 Point = Id16.Create(SystemEntropy.Instance);
    private readonly LabDirectory _folder = new();
    private readonly MachineImage _raw;
    private readonly MachineImage _qcow2;

    public ExistingImageTests()
    {
        _raw = new MachineImage("raw", _folder.File("a.raw"), "raw");
        _qcow2 = new MachineImage("qcow2", _folder.File("b.qcow2"), "qcow2");
    }

    private ImageHypervisor Driver => new([new ImageMachine(Machine, "still", [_raw, _qcow2])], new ImageTools(), TimeProvider.System);

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Writes_go_to_the_existing_images_and_a_mark_stands_until_they_are_whole()
    {
        await CreateAsync();
        var expected = await File.ReadAllBytesAsync(_raw.Path);
        await using (var broken = await Driver.BeginRestoreAsync(Request(RestorePlacement.InPlace), default))
        {
            var disk = (IExistingDisk)broken.Disks[0];
            Assert.Null(disk.TrackedSince);
            var read = new byte[Length];
            await disk.ReadAsync(0, read, default);
            Assert.Equal(expected, read);
            Assert.False(File.Exists(InPlaceMark.PathOf(_raw.Path)));
            var tail = new byte[1000];
            tail.AsSpan().Fill(7);
            await disk.WriteAsync(Length - 1000, tail, default);
            tail.CopyTo(expected, Length - 1000);
            Assert.True(File.Exists(InPlaceMark.PathOf(_raw.Path)) && File.Exists(InPlaceMark.PathOf(_qcow2.Path)));
        }

        // Nobody backs up what is half restored.
        var request = new CaptureRequest(Machine, Id16.Create(SystemEntropy.Instance), null, new HashSet<string>());
        var refused = await Assert.ThrowsAsync<FaultException>(async () => await Driver.BeginCaptureAsync(request, default));
        Assert.Contains($"{Point}", refused.Message, StringComparison.Ordinal);

        await using (var second = await Driver.BeginRestoreAsync(Request(RestorePlacement.InPlace), default))
        {
            var (raw, qcow2) = ((IExistingDisk)second.Disks[0], (IExistingDisk)second.Disks[1]);
            await raw.WriteZerosAsync(new ByteRange(65536, 70000), default);
            expected.AsSpan(65536, 70000).Clear();
            Assert.Equal([new ByteRange(0, 1 << 20)], await ListAsync(qcow2, new ByteRange(0, 2 << 20)));
            await qcow2.WriteAsync(1 << 20, new byte[] { 1, 2, 3 }, default);
            var machine = await second.CompleteAsync(default);
            Assert.Equal(_raw.Path, machine.Details["disk raw"]);
            Assert.Equal(Length, machine.Description!.Value.GetProperty("disks")[0].GetProperty("bytes").GetInt64());
        }
        Assert.Equal(expected, await File.ReadAllBytesAsync(_raw.Path));
        Assert.False(File.Exists(InPlaceMark.PathOf(_raw.Path)) || File.Exists(InPlaceMark.PathOf(_qcow2.Path)));
        // As a restore leaves it that was killed before its mark stood.
        var remains = InPlaceMark.PathOf(_qcow2.Path) + ".partial";
        await File.WriteAllBytesAsync(remains, [1]);
        await using var capture = await Driver.BeginCaptureAsync(request, default);
        Assert.False(File.Exists(remains));
        var three = new byte[3];
        await capture.Disks[1].ReadAsync(1 << 20, three, default);
        Assert.Equal([1, 2, 3], three);
    }

    [Fact]
    public async Task An_image_in_use_or_gone_blocks_a_restore_in_place()
    {
        await CreateAsync();
        Assert.DoesNotContain(await Driver.CheckRestoreAsync(Request(RestorePlacement.InPlace), default), IsBlocking);
        await using (await Driver.BeginRestoreAsync(Request(RestorePlacement.InPlace), default))
        {
            foreach (var placement in new[] { RestorePlacement.InPlace, RestorePlacement.Replace })
            {
                Assert.Contains(await Driver.CheckRestoreAsync(Request(placement), default), finding => IsBlocking(finding) && finding.Message.Contains("in use", StringComparison.Ordinal));
            }
        }
        File.Delete(_raw.Path);
        Assert.Contains(await Driver.CheckRestoreAsync(Request(RestorePlacement.InPlace), default), IsBlocking);
        var unknown = Request(RestorePlacement.InPlace) with { Machine = new Id16(5) };
        Assert.Contains(await Driver.CheckRestoreAsync(unknown, default), IsBlocking);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task New_images_take_the_places_of_the_old_ones_when_all_are_complete(bool keep)
    {
        await CreateAsync();
        var old = await File.ReadAllBytesAsync(_raw.Path);
        File.SetUnixFileMode(_raw.Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);
        await using (var dropped = await Driver.BeginRestoreAsync(Request(RestorePlacement.Replace), default))
        {
            await dropped.Disks[0].WriteAsync(0, new byte[] { 9 }, default);
        }
        Assert.Equal(old, await File.ReadAllBytesAsync(_raw.Path));
        Assert.Equal(["a.raw", "b.qcow2"], Names());

        await using (var restore = await Driver.BeginRestoreAsync(Request(RestorePlacement.Replace) with { KeepReplaced = keep }, default))
        {
            await restore.Disks[0].WriteAsync(5, new byte[] { 9 }, default);
            Assert.Equal(old, await File.ReadAllBytesAsync(_raw.Path));
            var machine = await restore.CompleteAsync(default);
            Assert.Equal(keep, machine.Details.ContainsKey("replaced"));
        }
        var expected = new byte[Length];
        expected[5] = 9;
        Assert.Equal(expected, await File.ReadAllBytesAsync(_raw.Path));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead, File.GetUnixFileMode(_raw.Path));
        var kept = $".replaced-{Point.ToString()[..8]}";
        Assert.Equal(keep ? ["a.raw", $"a.raw{kept}", "b.qcow2", $"b.qcow2{kept}"] : ["a.raw", "b.qcow2"], Names());
        if (keep)
        {
            Assert.Equal(old, await File.ReadAllBytesAsync(_raw.Path + kept));
        }
    }

    [Fact]
    public async Task A_replacement_that_broke_off_between_two_images_is_undone()
    {
        await CreateAsync();
        string[] images = [_raw.Path, _qcow2.Path];
        var old = await Task.WhenAll(images.Select(path => File.ReadAllBytesAsync(path)));
        foreach (var image in images)
        {
            await File.WriteAllTextAsync(ReplacementJournal.NewPath(image), "new");
        }
        var journal = new ReplacementJournal(images, ".replaced");
        journal.Swap();
        Assert.Equal("new", await File.ReadAllTextAsync(_qcow2.Path));

        // As after a power loss with one image swapped: the second one is in its place again, by hand.
        File.Move(_qcow2.Path, ReplacementJournal.NewPath(_qcow2.Path));
        File.Move(_qcow2.Path + ".virtbackup-old", _qcow2.Path);
        ReplacementJournal.Recover(images);
        Assert.Equal(old, await Task.WhenAll(images.Select(path => File.ReadAllBytesAsync(path))));
        Assert.Equal(["a.raw", "b.qcow2"], Names());
        ReplacementJournal.Recover(images);
        Assert.Equal(["a.raw", "b.qcow2"], Names());

        // Once the new machine may have been started, what it runs on stays, and so does what was there before.
        string[] more = [.. images, _folder.File("c.raw")];
        foreach (var (settled, refused) in new[] { (false, false), (true, true), (true, false) })
        {
            foreach (var image in more) await File.WriteAllTextAsync(ReplacementJournal.NewPath(image), "new");
            var again = new ReplacementJournal(more, ".replaced", "<definition/>");
            again.Swap();
            if (settled) again.Settle();
            // Its start was refused, and the way back breaks off.
            if (refused) again.Reopen();
            Assert.Equal("<definition/>", ReplacementJournal.Find(more)!.Definition);
            ReplacementJournal.Recover(more);
            await File.WriteAllTextAsync(ImageWriter.UnfinishedPath(ReplacementJournal.NewPath(more[0])), "half");
            ReplacementJournal.CleanUp(more);
            Assert.Equal(settled && !refused ? ["a.raw", "a.raw.replaced", "b.qcow2", "b.qcow2.replaced", "c.raw"] : ["a.raw", "b.qcow2"], Names());
        }
    }

    [Fact]
    public async Task A_replacement_whose_machine_may_have_run_is_finished_and_one_that_was_not_complete_is_removed()
    {
        await CreateAsync();
        string[] images = [_raw.Path, _qcow2.Path];
        foreach (var image in images)
        {
            await File.WriteAllTextAsync(ReplacementJournal.NewPath(image), "new");
        }
        var journal = new ReplacementJournal(images, ".kept");
        journal.Swap();
        journal.Settle();
        await File.WriteAllTextAsync(_raw.Path, "written by the guest");
        await Driver.ReleaseGuestsAsync(default);
        Assert.Equal("written by the guest", await File.ReadAllTextAsync(_raw.Path));
        Assert.Equal(["a.raw", "a.raw.kept", "b.qcow2", "b.qcow2.kept"], Names());

        await File.WriteAllTextAsync(ReplacementJournal.NewPath(_raw.Path) + ".partial", "half");
        await Driver.ReleaseGuestsAsync(default);
        Assert.Equal(["a.raw", "a.raw.kept", "b.qcow2", "b.qcow2.kept"], Names());
    }

    [Theory]
    [InlineData(1 << 20)]
    [InlineData(-(1 << 20))]
    public async Task Images_that_were_grown_or_shrunk_since_get_their_length_back(int by)
    {
        await CreateAsync();
        await Proc.CheckAsync("qemu-img", ["bitmap", "--add", "-f", "qcow2", _qcow2.Path, "virtbackup-x"]);
        await Proc.CheckAsync("qemu-img", ["bitmap", "--add", "-f", "qcow2", _qcow2.Path, "of another tool"]);
        var expected = await File.ReadAllBytesAsync(_raw.Path);
        using (var raw = File.OpenHandle(_raw.Path, access: FileAccess.ReadWrite)) RandomAccess.SetLength(raw, Length + by);
        await Proc.CheckAsync("qemu-img", ["resize", "-q", "--shrink", "-f", "qcow2", _qcow2.Path, $"{(4 << 20) + by}"]);
        var findings = await Driver.CheckRestoreAsync(Request(RestorePlacement.InPlace), default);
        Assert.DoesNotContain(findings, IsBlocking);
        Assert.Equal(2, findings.Count(finding => finding.Item == "disk" && finding.Message.Contains(by > 0 ? "shrunk" : "grown", StringComparison.Ordinal)));
        Assert.Equal(Length + by, new FileInfo(_raw.Path).Length);

        await using (var restore = await Driver.BeginRestoreAsync(Request(RestorePlacement.InPlace), default))
        {
            // Cutting off is a write, too.
            Assert.True(File.Exists(InPlaceMark.PathOf(_raw.Path)));
            var disk = (IExistingDisk)restore.Disks[0];
            var read = new byte[Length];
            await disk.ReadAsync(0, read, default);
            var kept = by > 0 ? Length : Length + by;
            Assert.Equal(expected[..kept], read[..kept]);
            Assert.All(read[kept..], value => Assert.Equal(0, value));
            await disk.WriteAsync(kept, expected.AsMemory(kept), default);
            await restore.CompleteAsync(default);
        }
        Assert.Equal(expected, await File.ReadAllBytesAsync(_raw.Path));
        var info = await Proc.CheckAsync("qemu-img", ["info", "--output=json", _qcow2.Path]);
        Assert.Contains($"\"virtual-size\": {4 << 20}", info, StringComparison.Ordinal);
        // What was cut off is a change that ours did not record.
        Assert.DoesNotContain("virtbackup-x", info, StringComparison.Ordinal);
        Assert.Contains("of another tool", info, StringComparison.Ordinal);
        Assert.False(File.Exists(InPlaceMark.PathOf(_raw.Path)));
    }

    [Fact]
    public async Task A_device_is_restored_in_place_with_its_mark_elsewhere_unless_the_host_uses_it()
    {
        Assert.SkipUnless(Environment.UserName == "root", "loop devices are for root alone");
        var file = _folder.File("device");
        await File.WriteAllBytesAsync(file, new byte[4 << 20]);
        var device = (await Proc.CheckAsync("losetup", ["--find", "--show", file])).Trim();
        try
        {
            var image = new MachineImage("dev", device, "raw");
            var driver = new ImageHypervisor([new ImageMachine(Machine, "still", [image])], new ImageTools { StateFolder = _folder.File("state") }, TimeProvider.System);
            var request = Request(RestorePlacement.InPlace) with { Disks = [new RestoreDisk(image.IdFor(Machine), "dev", 4 << 20, "raw", 4 << 20)] };
            Assert.DoesNotContain(await driver.CheckRestoreAsync(request, default), IsBlocking);
            var capture = new CaptureRequest(Machine, Point, null, new HashSet<string>());
            // The folder for marks is made with the first one.
            Assert.False(Directory.Exists(_folder.File("state")));
            await using (await driver.BeginCaptureAsync(capture, default))
            {
            }
            var longer = request with { Disks = [request.Disks[0] with { LengthBytes = 5 << 20 }] };
            Assert.Contains(await driver.CheckRestoreAsync(longer, default), finding => IsBlocking(finding) && finding.Message.Contains("lvresize", StringComparison.Ordinal));
            await using (var broken = await driver.BeginRestoreAsync(request, default))
            {
                await broken.Disks[0].WriteAsync(0, new byte[] { 1 }, default);
            }
            Assert.Contains("half restored", (await Assert.ThrowsAsync<FaultException>(async () => await driver.BeginCaptureAsync(capture, default))).Message, StringComparison.Ordinal);
            Assert.Single(Directory.EnumerateFiles(_folder.File("state")));
            await using (var restore = await driver.BeginRestoreAsync(request, default))
            {
                await restore.Disks[0].WriteAsync(1000, new byte[] { 5, 6 }, default);
                await restore.CompleteAsync(default);
            }
            Assert.Empty(Directory.EnumerateFiles(_folder.File("state")));
            await using (await driver.BeginCaptureAsync(capture, default))
            {
            }
            var written = await File.ReadAllBytesAsync(file);
            Assert.Equal([1, 5, 6], new[] { written[0], written[1000], written[1001] });

            await Proc.CheckAsync("mke2fs", ["-q", "-F", device]);
            var mounted = Directory.CreateDirectory(_folder.File("m")).FullName;
            await Proc.CheckAsync("mount", [device, mounted]);
            try
            {
                Assert.Contains(await driver.CheckRestoreAsync(request, default), finding => IsBlocking(finding) && finding.Message.Contains("mounted", StringComparison.Ordinal));
            }
            finally
            {
                await Proc.CheckAsync("umount", [mounted]);
            }
        }
        finally
        {
            await Proc.RunAsync("losetup", ["--detach", device]);
        }
    }

    [Fact]
    public async Task A_format_other_than_the_configured_one_is_told_or_refused()
    {
        await CreateAsync();
        var request = Request(RestorePlacement.Replace);
        var stored = request with { Disks = [request.Disks[0] with { Format = "qcow2" }, request.Disks[1]] };
        var findings = await Driver.CheckRestoreAsync(stored, default);
        Assert.DoesNotContain(findings, IsBlocking);
        Assert.Contains(findings, finding => finding is { Item: "disk format", Severity: FindingSeverity.Adapts });
        var chosen = stored with { Disks = [stored.Disks[0] with { IsFormatChosen = true }, request.Disks[1]] };
        Assert.Contains("agent.yaml", Assert.Single(await Driver.CheckRestoreAsync(chosen, default), IsBlocking).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_image_server_that_has_lost_its_agent_is_ended()
    {
        await CreateAsync();
        Directory.CreateDirectory(_folder.File("virtbackup-lock-x"));
        string SocketOf(MachineImage image) => _folder.File($"virtbackup-lock-x/{image.Name}.sock");
        async Task<string[]> FindAsync(MachineImage image) => (await Proc.RunAsync("pgrep", ["-f", $"^qemu-nbd --socket {SocketOf(image)}"])).Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        async Task WaitAsync(MachineImage image, bool running)
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
            while (await FindAsync(image) is var found && found.Length > 0 != running) await Task.Delay(20, limit.Token);
        }

        // One whose parent ends at once, and one whose parent lives: nobody connects to either.
        await Proc.CheckAsync("sh", ["-c", $"(exec qemu-nbd --socket {SocketOf(_raw)} --format raw {_raw.Path}) >/dev/null 2>&1 &"]);
        await Proc.CheckAsync("sh", ["-c", $"setsid sh -c '(exec qemu-nbd --socket {SocketOf(_qcow2)} --format qcow2 {_qcow2.Path}) & wait' >/dev/null 2>&1 &"]);
        await WaitAsync(_raw, running: true);
        await WaitAsync(_qcow2, running: true);
        OrphanedServers.End("qemu-nbd");
        await WaitAsync(_raw, running: false);
        await Proc.CheckAsync("kill", await FindAsync(_qcow2));
    }

    [Fact]
    public void Extents_beyond_the_bound_are_joined_and_stay_covered()
    {
        var random = new Random(3);
        var joined = new JoinedExtents(16);
        var added = new List<ByteRange>();
        for (long offset = 0, i = 0; i < 500; i++)
        {
            offset += random.Next(1, 1 << 20);
            added.Add(new ByteRange(offset, 512));
            joined.Add(added[^1]);
            offset += 512;
        }
        var extents = joined.ToList();
        Assert.InRange(extents.Count, 1, 16);
        Assert.All(added, extent => Assert.Contains(extents, whole => whole.Offset <= extent.Offset && whole.End >= extent.End));
        Assert.All(extents.Zip(extents.Skip(1)), pair => Assert.True(pair.First.End < pair.Second.Offset));
    }

    private async Task CreateAsync()
    {
        await File.WriteAllBytesAsync(_raw.Path, new byte[Length]);
        await LabDisk.FillAsync(_raw.Path, 0, Length, seed: 1);
        await LabDisk.CreateAsync(_qcow2.Path, LabDiskFormat.Qcow2, 4 << 20);
        await Proc.CheckAsync("qemu-io", ["-f", "qcow2", "-c", "write -P 0x21 0 1M", _qcow2.Path]);
    }

    private RestoreRequest Request(RestorePlacement placement) => new(Machine, Point, "image", new MachineConfiguration("still", default, "none", default),
        [new RestoreDisk(_raw.IdFor(Machine), "raw", Length, "raw", Length), new RestoreDisk(_qcow2.IdFor(Machine), "qcow2", 4 << 20, "qcow2", 1 << 20)], "", "still")
    {
        Placement = placement,
        KeepIdentity = true,
    };

    private static bool IsBlocking(RestoreFinding finding) => finding.Severity == FindingSeverity.Blocks;

    private static async Task<List<ByteRange>> ListAsync(IExistingDisk disk, ByteRange range)
    {
        var extents = new List<ByteRange>();
        await foreach (var extent in disk.ListDataAsync(range, default)) extents.Add(extent);
        return extents;
    }

    private List<string> Names() => [.. Directory.EnumerateFiles(_folder.Path).Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal)];
}
