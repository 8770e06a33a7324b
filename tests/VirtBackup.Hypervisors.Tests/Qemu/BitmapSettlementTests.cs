using System.Text.Json.Nodes;
using CsCheck;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class BitmapSettlementTests
{
    private enum Step { Write, Commit, CommitUnsettled, Abandon, Crash, CleanRestart, Kill }

    /// <summary>Disks, their bitmaps as QEMU keeps them, and the truth: what was written since each point.</summary>
    private sealed class Model
    {
        private sealed class Bitmap
        {
            public bool Recording = true, Inconsistent;
            public HashSet<int> Blocks = [];
        }

        private const int Disks = 3;
        private readonly Dictionary<string, Bitmap>[] bitmaps = [[], [], []];
        private readonly Dictionary<(Id16 Point, int Disk), HashSet<int>> written = [];
        private readonly HashSet<Id16> committed = [];
        private ulong lastPoint;

        private static bool Keeps(int disk) => disk != 2;

        private static DiskSummary Summary(int disk) => new(new Id16((UInt128)(disk + 1) << 96), $"disk{disk}", 1 << 20, "qcow2", null);

        private List<QemuDisk> Inventory() => [.. Enumerable.Range(0, Disks).Select(disk => new QemuDisk(
            Summary(disk), $"node{disk}", null, "/machine", "virtio-blk-device", "file", Keeps(disk),
            [.. bitmaps[disk].Select(entry => TrackingName.TryParse(entry.Key, out var name)
                ? new TrackingBitmap(name, entry.Value.Recording, entry.Value.Inconsistent, entry.Value.Blocks.Count)
                : throw new InvalidOperationException(entry.Key))], null))];

        public void Write(int disk, int block)
        {
            foreach (var bitmap in bitmaps[disk].Values.Where(bitmap => bitmap.Recording && !bitmap.Inconsistent))
            {
                bitmap.Blocks.Add(block);
            }
            foreach (var ((_, at), blocks) in written)
            {
                if (at == disk) blocks.Add(block);
            }
        }

        /// <summary>One transaction: as strict as QEMU about what exists and what can be used.</summary>
        private void Apply(JsonArray actions)
        {
            foreach (var action in actions)
            {
                var data = action!["data"]!;
                var on = bitmaps[int.Parse(data["node"]!.GetValue<string>()[4..])];
                var name = (data["name"] ?? data["target"])!.GetValue<string>();
                switch (action["type"]!.GetValue<string>())
                {
                    case "block-dirty-bitmap-add":
                        on.Add(name, new Bitmap());
                        break;
                    case "block-dirty-bitmap-remove":
                        Assert.True(on.Remove(name));
                        break;
                    case "block-dirty-bitmap-enable":
                        Assert.False(on[name].Inconsistent || on[name].Recording);
                        on[name].Recording = true;
                        break;
                    case "block-dirty-bitmap-disable":
                        Assert.False(on[name].Inconsistent);
                        on[name].Recording = false;
                        break;
                    case "block-dirty-bitmap-merge":
                        foreach (var source in data["bitmaps"]!.AsArray())
                        {
                            Assert.False(on[source!.GetValue<string>()].Inconsistent || on[name].Inconsistent);
                            on[name].Blocks.UnionWith(on[source.GetValue<string>()].Blocks);
                        }
                        break;
                    default:
                        Assert.Fail("unknown action");
                        break;
                }
            }
        }

        public Id16? Settle(Func<Id16, bool> isCommitted)
        {
            var outcome = BitmapSettlement.Decide(Inventory(), isCommitted);
            Apply(outcome.Actions);
            Assert.Empty(BitmapSettlement.Decide(Inventory(), isCommitted).Actions);
            foreach (var disk in Inventory())
            {
                Assert.InRange(disk.Bitmaps.Count(bitmap => BitmapSettlement.IsUsable(disk, bitmap)), 0, 1);
            }
            return outcome.Base;
        }

        public void Run(Step end, Action during)
        {
            var from = Settle(committed.Contains);
            Assert.True(from is null || committed.Contains(from.Value));
            var point = new Id16(++lastPoint);
            var disks = Inventory();
            for (var disk = 0; disk < Disks; disk++)
            {
                var (bitmap, reason) = BitmapSettlement.ChooseBase(disks[disk], from);
                Assert.NotEmpty(reason);
                if (bitmap is not null)
                {
                    Assert.Superset(written[(from!.Value, disk)], bitmaps[disk][bitmap.Name.ToString()].Blocks);
                }
            }
            Apply(BitmapSettlement.CutActions(disks, point));
            for (var disk = 0; disk < Disks; disk++)
            {
                written[(point, disk)] = [];
            }
            during();
            if (end is Step.Commit or Step.CommitUnsettled) committed.Add(point);
            if (end == Step.Commit) Assert.Equal(point, Settle(tracked => tracked == point));
            if (end == Step.Abandon) Settle(tracked => tracked != point);
        }

        public void Restart(bool killed)
        {
            for (var disk = 0; disk < Disks; disk++)
            {
                if (!Keeps(disk)) bitmaps[disk].Clear();
                foreach (var bitmap in bitmaps[disk].Values) bitmap.Inconsistent |= killed;
            }
        }
    }

    private static readonly Gen<(Step Step, int Disk, int Block)[]> Histories =
        Gen.Select(Gen.Enum<Step>(), Gen.Int[0, 2], Gen.Int[0, 30]).Array[1, 40];

    [Fact]
    public void No_history_of_runs_and_failures_makes_an_increment_miss_a_write() => Histories.Sample(history =>
    {
        var model = new Model();
        foreach (var (step, disk, block) in history)
        {
            switch (step)
            {
                case Step.Write:
                    model.Write(disk, block);
                    break;
                case Step.CleanRestart or Step.Kill:
                    model.Restart(step == Step.Kill);
                    break;
                default:
                    model.Run(step, () => model.Write(disk, block));
                    break;
            }
        }
        model.Run(Step.Commit, () => { });
    }, iter: 3000);

    [Fact]
    public void A_bitmap_of_another_device_or_length_is_never_a_base()
    {
        var point = new Id16(7);
        var disk = new DiskSummary(new Id16((UInt128)1 << 96), "a", 1 << 20, "qcow2", null);
        foreach (var (other, words) in new[] { (disk with { LengthBytes = 2 << 20 }, "resized"), (disk with { Id = new Id16((UInt128)2 << 96) }, "another device") })
        {
            var holder = new QemuDisk(disk, "n", null, "/machine", "t", "f", true, [new TrackingBitmap(TrackingName.For(point, other), true, false, 0)], null);
            var (bitmap, reason) = BitmapSettlement.ChooseBase(holder, point);
            Assert.Null(bitmap);
            Assert.Contains(words, reason, StringComparison.Ordinal);
            Assert.Null(BitmapSettlement.Decide([holder], _ => true).Base);
        }
    }

    [Fact]
    public void Only_canonical_names_are_ours()
    {
        var name = TrackingName.For(new Id16(5), new DiskSummary(new Id16((UInt128)0xabcdef12 << 96), "a", 4096, "raw", null));
        Assert.Equal("virtbackup-00000000000000000000000000000005-abcdef12-1000", name.ToString());
        Assert.True(TrackingName.TryParse(name.ToString(), out var parsed) && parsed == name);
        foreach (var text in new[] { "", "cp0", "virtbackup-", "virtbackup-5-abcdef12-1000", name + "-x", name.ToString().ToUpperInvariant(), name.ToString()[..^4] + "01000" })
        {
            Assert.False(TrackingName.TryParse(text, out _), text);
        }
    }
}
