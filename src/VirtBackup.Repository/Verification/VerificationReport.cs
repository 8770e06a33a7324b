using VirtBackup.Core;
using VirtBackup.Format;

namespace VirtBackup.Repository.Verification;

/// <summary>What a verification checks and whom it tells.</summary>
public sealed record VerificationOptions
{
    /// <summary>Only this recovery point: its manifest and keys, its map, and the packs in which they and its chunks lie. Null: everything.</summary>
    public Id16? Point { get; init; }

    public required IManifestSignatureVerifier Signatures { get; init; }

    /// <summary>With it every chunk is opened that a recovery point of a repository needs whose keys it has; without it no key is needed.</summary>
    public IChunkOpener? Opener { get; init; }

    public IProgress<VerificationProgress>? Progress { get; init; }
}

/// <summary>How far a verification is. <see cref="Bytes"/> counts what was read of packs, <see cref="BytesTotal"/> what is to be read of them.</summary>
public readonly record struct VerificationProgress(long Packs, long Bytes, long BytesTotal, long Points, long Chunks, int Damages);

/// <summary>What a verification found.</summary>
/// <param name="Packs">Packs read completely.</param>
/// <param name="Bytes">Their bytes.</param>
/// <param name="Points">Recovery points walked.</param>
/// <param name="ChunksOpened">Chunks opened with keys.</param>
/// <param name="Damages">Everything that is wrong, at most <see cref="DamagesMax"/>.</param>
/// <param name="DamageCount">All of it.</param>
public sealed record VerificationReport(long Packs, long Bytes, long Points, long ChunksOpened, IReadOnlyList<Damage> Damages, long DamageCount)
{
    /// <summary>Damages that are listed one by one.</summary>
    public const int DamagesMax = 10_000;

    public bool IsSound => DamageCount == 0;
}

/// <summary>A damaged or missing object and what it takes away.</summary>
/// <param name="ObjectKey">Its key in the store.</param>
/// <param name="Problem">What is wrong, for people.</param>
/// <param name="Affected">Which bytes of which recovery points cannot be trusted; at most <see cref="AffectedMax"/> runs.</param>
/// <param name="AffectedIsCut">More is affected than is listed.</param>
public sealed record Damage(string ObjectKey, string Problem, IReadOnlyList<AffectedRange> Affected, bool AffectedIsCut)
{
    /// <summary>Runs that are listed for one damage.</summary>
    public const int AffectedMax = 1000;
}

/// <summary>A run of bytes of a recovery point's stream.</summary>
public readonly record struct AffectedRange(Id16 Vm, Id16 Point, Id16 Stream, ByteRange Range);
