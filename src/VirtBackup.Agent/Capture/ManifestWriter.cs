using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Sealing;

namespace VirtBackup.Agent.Capture;

/// <summary>Describes, seals and signs a finished capture.</summary>
internal sealed class ManifestWriter(
    BackupContext context, string hypervisorKind, ICapture capture, IReadOnlyList<DiskRun> disks, IReadOnlyList<Id16> epochs, AuditStatistics? audit, RunProgress progress, long started)
{
    /// <summary>The manifest for what the controller said when <paramref name="session"/> began.</summary>
    public byte[] Write(BeginSessionResponse session, ulong attempt, Id16 machine, Id16 point, VmKey vmKey)
    {
        var head = new ManifestHead
        {
            Consistency = (Consistency)(int)capture.Consistency,
            Repository = Id16.Parse(session.RepositoryId),
            Vm = machine,
            Lineage = Id16.Parse(session.LineageId),
            Point = point,
            Scope = Id16.Parse(session.ScopeId),
            IdGeneration = (ushort)session.IdGeneration,
            Generation = (long)session.Generation,
            Attempt = (long)attempt,
            Sequence = (long)session.Sequence,
            CreatedMs = session.CreatedMs,
            PreviousManifest = ReadHash(session.PreviousManifest),
            BaseManifest = ReadHash(session.BaseManifest),
            AgentKeyId = context.SignerId,
            BodyEpochIndex = epochs.Index().First(epoch => epoch.Item == vmKey.EpochId).Index,
            Streams = [.. disks.Select(disk => new ManifestStream(disk.Source.Disk.Id, disk.Kind, disk.Geometry, disk.Map.Root)).OrderBy(stream => stream.Id)],
            Epochs = epochs,
        };
        return ManifestSealing.Seal(head, Describe(), vmKey, context.Signer, context.Tools.Entropy);
    }

    private static Id32 ReadHash(Google.Protobuf.ByteString bytes) => bytes.Length switch
    {
        0 => Id32.Zero,
        Id32.Size => Id32.Read(bytes.Span),
        _ => throw FaultException.Malformed("The controller named a manifest by a hash of the wrong length."),
    };

    private ManifestBody Describe()
    {
        var counted = progress.ToMessage();
        return new ManifestBody
        {
            VmName = capture.Configuration.Name,
            HypervisorKind = hypervisorKind,
            Machine = capture.Configuration.Neutral,
            Native = new NativeDocument(capture.Configuration.NativeKind, capture.Configuration.Native.ToArray()),
            AgentName = context.AgentName,
            Quiesce = new QuiesceDetails(capture.Consistency == CaptureConsistency.Crash ? "none" : "guest-agent",
                (long)Math.Ceiling(capture.Frozen?.TotalMilliseconds ?? 0), capture.ConsistencyDetail),
            State = StateStreams.Describe(capture, disks),
            Statistics = new RunStatistics
            {
                BytesRead = disks.Sum(disk => disk.BytesRead),
                BytesUploaded = (long)counted.BytesSent,
                ChunksTotal = (long)(counted.ChunksNew + counted.ChunksKnown + counted.ChunksZero),
                ChunksUploaded = (long)counted.ChunksNew,
                ChunksZero = (long)counted.ChunksZero,
                DurationMs = (long)context.Tools.Time.GetElapsedTime(started).TotalMilliseconds,
            },
            Audit = audit,
            Streams =
            [
                .. disks.Select(disk => new StreamDescription
                {
                    Id = disk.Source.Disk.Id.ToString(),
                    Name = disk.Source.Disk.Name,
                    Device = disk.Source.Disk.Name,
                    Format = disk.Source.Disk.Format,
                    VirtualBytes = disk.Source.Disk.LengthBytes,
                    ReadReason = disk.Source.Reason,
                    ReadBytes = disk.BytesRead,
                    BaseToken = disk.Source.BaseToken,
                }),
            ],
        };
    }
}
