using System.Security.Cryptography;
using System.Text;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>Names, keys and manifests of the generated machines. Nothing is encrypted: a repository holds no key.</summary>
internal static class Fleet
{
    public static readonly Id16 Repository = Named("repository");
    public static readonly Id16 Scope = Named("scope");
    private static readonly Id16 Agent = Named("agent");
    private static readonly DateTimeOffset FirstDay = new(2031, 5, 4, 3, 2, 1, TimeSpan.Zero);

    public static Id16 Vm(int machine) => Named($"machine {machine}");

    public static Id16 Lineage(int machine) => Named($"lineage {machine}");

    public static Id16 Epoch(int machine) => Named($"epoch {machine}");

    public static Id16 Point(int machine, int point) => Named($"point {machine}.{point}");

    public static DateTimeOffset DayOf(int point) => FirstDay.AddDays(point);

    /// <summary>When the last point is a month old.</summary>
    public static DateTimeOffset Today(HistoryShape shape) => DayOf(shape.PointsPerMachine + 30);

    public static RepositoryHead Head() => new() { Uuid = Repository, Created = FirstDay, RestoreKey = [1, 2, 3] };

    public static (string Name, byte[] Bytes) Key(int machine)
    {
        var key = new KeyObject
        {
            Repository = Repository, Vm = Vm(machine), Epoch = Epoch(machine), Recipient = Named("recipient"),
            Ephemeral = new byte[KeyObject.PointBytes].Select((_, at) => at == 0 ? (byte)4 : (byte)0).ToArray(), Sealed = new byte[KeyObject.SealedBytes],
        };
        return (ObjectKeys.VmKey(key.Vm, key.Epoch, key.Recipient), key.ToBytes());
    }

    public static Manifest Manifest(int machine, int point, MapGeometry disk, Id32 root, Id32 previous)
    {
        var head = new ManifestHead
        {
            Consistency = Consistency.Crash, Repository = Repository, Vm = Vm(machine), Lineage = Lineage(machine), Point = Point(machine, point),
            Scope = Scope, IdGeneration = PackLayout.IdGeneration, Generation = 0, Attempt = 1, Sequence = point, CreatedMs = DayOf(point).ToUnixTimeMilliseconds(),
            PreviousManifest = previous, BaseManifest = previous, AgentKeyId = Agent, Streams = [new ManifestStream(Named("disk"), StreamKind.Disk, disk, root)],
            Epochs = [Epoch(machine)], BodyEpochIndex = 0,
        };
        var bytes = Format.Manifests.Manifest.Assemble(head.ToBytes(), new byte[256], new byte[Format.Manifests.Manifest.SignatureBytes]);
        return Format.Manifests.Manifest.Parse(bytes);
    }

    private static Id16 Named(string what) => Id16.Read(SHA256.HashData(Encoding.UTF8.GetBytes(what)));
}
