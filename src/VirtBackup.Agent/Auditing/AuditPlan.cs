using VirtBackup.Agent.State;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Auditing;

/// <summary>The part of one disk's rotation that a run should audit.</summary>
/// <param name="Base">The disk as the base has it.</param>
/// <param name="Rotation">As it stands before the run.</param>
/// <param name="Spans">Numbers of the leaves that are due, in the rotation's order: also of those that earlier runs had no time for.</param>
internal sealed record DiskAuditPlan(BaseDisk Base, MapGeometry Geometry, AuditRotation Rotation, long[] Spans)
{
    /// <summary>The rotation after a run that audited so many of them; null: it is complete.</summary>
    public AuditRotation? After(int audited) =>
        Rotation.Position + audited >= Geometry.LeafCount ? null : Rotation with { Position = Rotation.Position + audited, Runs = Rotation.Runs + 1 };
}

/// <summary>
/// What a run should audit, chosen before its cut: the spans of a rotation in an order that nobody can foretell, so many that
/// all have been read after the given number of runs. Spans, because chunks never cross them, and each needs one leaf of the
/// base's map only.
/// </summary>
internal sealed class AuditPlan
{
    /// <summary>Spans of one disk and run at most: the bound of the plan's memory.</summary>
    private const int QuotaMax = 1 << 16;

    private AuditPlan(AuditOptions options, IReadOnlyDictionary<Id16, DiskAuditPlan> disks) => (Options, Disks) = (options, disks);

    public AuditOptions Options { get; }

    /// <summary>By disk id.</summary>
    public IReadOnlyDictionary<Id16, DiskAuditPlan> Disks { get; }

    public static AuditPlan Make(BaseRecord basis, AuditOptions options, IEntropy entropy)
    {
        Check.That(options.Runs > 0);
        var disks = new Dictionary<Id16, DiskAuditPlan>();
        foreach (var disk in basis.Disks.Where(static disk => disk.LengthBytes > 0))
        {
            var geometry = new MapGeometry(disk.Shape, disk.LengthBytes);
            var rotation = disk.Rotation is { } known && known.Position < geometry.LeafCount ? known : Begin(entropy);
            var order = new SpanOrder(rotation.Key, geometry.LeafCount);
            var due = Enumerable.Range(0, QuotaOf(geometry.LeafCount, rotation, options.Runs)).Select(index => order.At(rotation.Position + index));
            disks[disk.Disk] = new DiskAuditPlan(disk, geometry, rotation, [.. due]);
        }
        return new AuditPlan(options, disks);
    }

    /// <summary>What the hypervisor is asked to keep readable.</summary>
    public IReadOnlyDictionary<Id16, IReadOnlyList<ByteRange>> Ranges() => Disks.ToDictionary(
        static disk => disk.Key,
        static disk => (IReadOnlyList<ByteRange>)[.. disk.Value.Spans.Order()
            .Select(span => new ByteRange(disk.Value.Geometry.OffsetOf(0, span), disk.Value.Geometry.PlaceOf(0, span).Length))]);

    private static AuditRotation Begin(IEntropy entropy)
    {
        Span<byte> key = stackalloc byte[Id32.Size];
        entropy.Fill(key);
        return new AuditRotation(Id32.Read(key), 0, 0);
    }

    private static int QuotaOf(long spans, AuditRotation rotation, int runs)
    {
        var due = rotation.Runs + 1 >= runs ? spans : (long)(((Int128)spans * (rotation.Runs + 1) + runs - 1) / runs);
        return (int)Math.Clamp(due - rotation.Position, 0, QuotaMax);
    }
}
