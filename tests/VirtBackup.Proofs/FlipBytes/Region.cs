using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.Installation;

namespace VirtBackup.Proofs.FlipBytes;

/// <summary>What a byte belongs to.</summary>
internal enum RegionKind
{
    DataHeader,
    DataNonce,
    DataCiphertext,
    DataTag,
    DataFooter,
    DataTrailer,
    NodeHeader,
    Node,
    MapFooter,
    MapTrailer,
    ManifestHead,
    ManifestBody,
    ManifestSignature,
    ManifestHash,

    /// <summary>Body or signature, with the hash behind them made to fit: only the signature can tell.</summary>
    ManifestForged,
    KeyObject,
    RepositoryHead,
}

/// <summary>Bytes of an object.</summary>
/// <param name="Record">The record that they belong to, if they do.</param>
internal sealed record Region(RegionKind Kind, string Key, int Start, int Length, PackEntry? Record = null)
{
    /// <summary>All regions of a repository's objects.</summary>
    public static IEnumerable<Region> ListOf(Census census)
    {
        foreach (var (key, records) in census.Packs)
        {
            var bytes = census.Objects[key];
            var footer = PackFooter.Parse(bytes, bytes.Length);
            var isData = footer.Kind == RecordKind.Data;
            foreach (var record in records)
            {
                var (start, length) = ((int)record.Entry.Offset, record.Entry.Header.RecordLength);
                var payload = start + RecordHeader.Size;
                yield return new Region(isData ? RegionKind.DataHeader : RegionKind.NodeHeader, key, start, RecordHeader.Size, record.Entry);
                if (isData)
                {
                    var tag = start + length - RecordHeader.TagBytes;
                    yield return new Region(RegionKind.DataNonce, key, payload, RecordHeader.NonceBytes, record.Entry);
                    yield return new Region(RegionKind.DataCiphertext, key, payload + RecordHeader.NonceBytes, tag - payload - RecordHeader.NonceBytes, record.Entry);
                    yield return new Region(RegionKind.DataTag, key, tag, RecordHeader.TagBytes, record.Entry);
                }
                else
                {
                    yield return new Region(RegionKind.Node, key, payload, length - RecordHeader.Size, record.Entry);
                }
            }
            yield return new Region(isData ? RegionKind.DataFooter : RegionKind.MapFooter, key, (int)footer.Trailer.FooterOffset, footer.Trailer.FooterLength);
            yield return new Region(isData ? RegionKind.DataTrailer : RegionKind.MapTrailer, key, bytes.Length - PackTrailer.Size, PackTrailer.Size);
        }
        foreach (var manifest in census.Points.Values)
        {
            var key = ObjectKeys.Manifest(manifest.Head.Vm, manifest.Head.Point);
            var (head, hash) = (manifest.Head.Length, manifest.Bytes.Length - Id32.Size);
            var signature = hash - Manifest.SignatureBytes;
            yield return new Region(RegionKind.ManifestHead, key, 0, head);
            yield return new Region(RegionKind.ManifestBody, key, head, signature - head);
            yield return new Region(RegionKind.ManifestSignature, key, signature, Manifest.SignatureBytes);
            yield return new Region(RegionKind.ManifestHash, key, hash, Id32.Size);
            yield return new Region(RegionKind.ManifestForged, key, head + sizeof(uint), hash - head - sizeof(uint));
        }
        foreach (var (key, bytes) in census.Objects)
        {
            if (ObjectKeys.TryParseVmKey(key, out _, out _, out _))
            {
                yield return new Region(RegionKind.KeyObject, key, 0, bytes.Length);
            }
        }
        yield return new Region(RegionKind.RepositoryHead, ObjectKeys.Format, 0, census.Objects[ObjectKeys.Format].Length);
    }
}
