using System.Buffers;
using System.Text;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Format.Tests;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Hypervisors.State;
using VirtBackup.Identity;
using VirtBackup.Protocol.Grpc;
using VirtBackup.Sealing;

namespace VirtBackup.Proofs.Fuzz;

/// <summary>Every parser of files, objects and texts that others may have written. NBD streams have a harness of their own (NbdFuzz).</summary>
internal static class Targets
{
    /// <summary>Where the footers of the corpus lie in their packs, bytes.</summary>
    private const long FooterOffset = 1156;

    public static IReadOnlyList<Target> All { get; } =
    [
        new("record-header", static bytes => [.. Write(RecordHeader.Parse(bytes)), .. bytes[RecordHeader.Size..]], ChecksumRepair.OfRecord),
        new("pack-footer", static bytes =>
        {
            var footer = PackFooter.Parse(bytes, FooterOffset + bytes.Length);
            var again = PackFooter.Build(footer.Kind, footer.Entries.ToArray(), footer.Trailer.FooterOffset);
            return [.. bytes[..^again.Length], .. again];
        }, ChecksumRepair.OfPack),
        new("map-leaf", static bytes =>
        {
            var leaf = MapLeaf.Parse(bytes);
            // Nothing more is needed to read every entry.
            for (var i = 0; i < leaf.Count; i++)
            {
                _ = (leaf.IdAt(i), leaf.LengthAt(i), leaf[i]);
            }
            return null;
        }),
        new("map-inner", static bytes =>
        {
            var inner = MapInner.Parse(bytes);
            for (var i = 0; i < inner.Count; i++)
            {
                _ = inner[i];
            }
            return null;
        }),
        new("manifest", static bytes =>
        {
            var manifest = Manifest.Parse(bytes);
            return Manifest.Assemble(manifest.Head.ToBytes(), manifest.SealedBody.Span, manifest.Signature.Span);
        }, ChecksumRepair.OfObject),
        new("manifest-body", static bytes => ManifestBody.Parse(bytes).ToBytes()) { IsFree = true },
        new("tombstone", static bytes => AbortTombstone.Parse(bytes).ToBytes(), ChecksumRepair.OfObject),
        new("key-object", static bytes => KeyObject.Parse(bytes).ToBytes(), ChecksumRepair.OfObject),
        new("wrapped-key", static bytes => WrappedKey.Parse(bytes).ToBytes(), ChecksumRepair.OfObject),
        new("repository-head", static bytes => RepositoryHead.Parse(bytes).ToBytes()) { IsFree = true },
        new("escrow-keys", static bytes =>
        {
            using var keys = EscrowKeys.Parse(bytes);
            return keys.Serialize();
        }) { IsFree = true },
        new("join-token", static bytes =>
        {
            using var token = JoinToken.Parse(Encoding.UTF8.GetString(bytes));
            return Encoding.UTF8.GetBytes(token.ToText());
        }) { IsFree = true },
        new("recovery-kit", static bytes =>
        {
            RecoveryKitText.Parse(bytes).Dispose();
            return null;
        }),
        new("controller-settings", static bytes => ControllerSettings.Parse(bytes, "controller.json").ToJson()) { IsFree = true },
        new("certificate", static bytes =>
        {
            CertificateFiles.Parse(bytes, "tls.crt").Dispose();
            return null;
        }),
        new("grpc-slice", static bytes =>
        {
            using var slice = ReceivedSlice.Parse(new ReadOnlySequence<byte>(bytes));
            return null;
        }),
        new("qemu-img-info", static bytes =>
        {
            _ = ImageInfo.Parse(Encoding.UTF8.GetString(bytes), "disk.qcow2");
            return null;
        }),
        new("qemu-saved-state", static bytes =>
        {
            var saved = SavedStream.Parse((target, offset) =>
            {
                var count = (int)Math.Min(target.Length, bytes.Length - offset);
                bytes.AsSpan((int)offset, count).CopyTo(target);
                return count;
            }, bytes.Length);
            return [.. saved.Document.Write(), .. bytes[(int)saved.TailOffset..]];
        }) { IsFree = true },
        new("device-state", static bytes =>
        {
            var document = StateDocument.Read(bytes, out var length);
            return [.. document.Write(), .. bytes[length..]];
        }),
        new("qemu-arguments", static bytes =>
        {
            foreach (var option in Argv.Parse(Encoding.UTF8.GetString(bytes).Split('\n')))
            {
                _ = OptionText.Parse(option.Value ?? "").ToString();
                _ = JsonOption.TryParse(option.Value ?? "");
                _ = TrackingName.TryParse(option.Value ?? "", out _);
            }
            return null;
        }),
    ];

    private static byte[] Write(RecordHeader header)
    {
        var bytes = new byte[RecordHeader.Size];
        header.Write(bytes);
        return bytes;
    }
}
