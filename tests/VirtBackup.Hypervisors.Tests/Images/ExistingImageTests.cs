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
        await using var capture = await Driver.BeginCaptureAsync(request, default);
        var three = new byte[3];
        await capture.Disks[1].ReadAsync(1 << 20, three, default);
        Assert.Equal([1, 2, 3], three);
    }

    [Fact]
    public async Task An_image_in_use_of_another_length_or_gone_blocks_a_restore_in_place()
    {
        await CreateAsync();
        Assert.DoesNotContain(await Driver.CheckRestoreAsync(Request(RestorePlacement.InPlace), default), IsBlocking);
        var longer = Request(RestorePlacement.InPlace);
        longer = longer with { Disks = [longer.Disks[0] with { LengthBytes = Length + 512 }] };
        Assert.Contains(await Driver.CheckRestoreAsync(longer, default), finding => IsBlocking(finding) && finding.Message.Contains($"{Length}", StringComparison.Ordinal));

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
        foreach (var settled in new[] { false, true })
        {
            foreach (var image in more) await File.WriteAllTextAsync(ReplacementJournal.NewPath(image), "new");
            var again = new ReplacementJournal(more, ".replaced", "<definition/>");
            again.Swap();
            if (settled) again.Settle();
            Assert.Equal("<definition/>", ReplacementJournal.Find(more)!.Definition);
            ReplacementJournal.Recover(more);
            await File.WriteAllTextAsync(ImageWriter.UnfinishedPath(ReplacementJournal.NewPath(more[0])), "half");
            ReplacementJournal.CleanUp(more);
            Assert.Equal(settled ? ["a.raw", "a.raw.replaced", "b.qcow2", "b.qcow2.replaced", "c.raw"] : ["a.raw", "b.qcow2"], Names());
        }
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
