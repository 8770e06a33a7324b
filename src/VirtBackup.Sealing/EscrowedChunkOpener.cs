using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Maps;

namespace VirtBackup.Sealing;

/// <summary>
/// Opens any chunk of a repository with the escrowed keys. Not safe for concurrent use; wipes what it opened.
/// </summary>
public sealed class EscrowedChunkOpener : IChunkOpener, IDisposable
{
    /// <summary>The generation of chunk-id keys that controllers use for their repository's own scope.</summary>
    private const ushort FirstGeneration = 1;

    // As they were: what is unlocked meanwhile has no key in the ring.
    private readonly HashSet<Id16> _origins;
    private readonly OpenedKeys _vmKeys;
    private readonly ChunkKeyRing _ring;
    private readonly ChunkOpener _opener;
    private byte[] _plain = [];

    /// <param name="keyholder">Stays the caller's.</param>
    /// <param name="head">Which scopes there are.</param>
    public EscrowedChunkOpener(Keyholder keyholder, RepositoryHead head)
    {
        ArgumentNullException.ThrowIfNull(keyholder);
        ArgumentNullException.ThrowIfNull(head);
        var origins = keyholder.Origins;
        _origins = [head.Uuid, .. origins];
        _vmKeys = new OpenedKeys(keyholder);
        var scopes = head.Scopes.Select(static scope => (Id: Id16.Parse(scope.Id), scope.Generation)).Append((Id: head.Uuid, Generation: FirstGeneration)).Distinct();
        var idKeys = scopes.Select(scope => keyholder.DeriveIdKey(scope.Id, scope.Generation))
            .Concat(origins.Select(origin => keyholder.DeriveIdKey(origin, origin, FirstGeneration))).ToList();
        _ring = new ChunkKeyRing(idKeys);
        idKeys.ForEach(static key => key.Dispose());
        _opener = new ChunkOpener(_ring);
    }

    public bool Opens(Id16 origin) => _origins.Contains(origin);

    public async ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
    {
        var secret = await UnmaskAsync(vm, entry, cancellationToken);
        _opener.Open(record.Span, entry.Id, secret, RoomFor(entry.Length));
    }

    private Span<byte> RoomFor(int length)
    {
        if (_plain.Length < length)
        {
            CryptographicOperations.ZeroMemory(_plain);
            _plain = new byte[Math.Min(Limits.ChunkBytesMax, (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)length))];
        }
        return _plain.AsSpan(0, length);
    }

    /// <summary>Neither a damaged key nor a damaged entry says anything about the record.</summary>
    private async ValueTask<ChunkSecret> UnmaskAsync(Id16 vm, MapEntry entry, CancellationToken cancellationToken)
    {
        try
        {
            var key = await _vmKeys.GetAsync(vm, entry.EpochId, cancellationToken);
            return key.Unmask(entry.Id, entry.MaskedSecret);
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.Corrupt or FaultReason.Malformed or FaultReason.Unsupported or FaultReason.NotFound)
        {
            throw new FaultException(FaultReason.Denied, $"Chunk {entry.Id} cannot be opened for VM {vm}: {fault.Message}", fault);
        }
    }

    public void Dispose()
    {
        CryptographicOperations.ZeroMemory(_plain);
        _opener.Dispose();
        _ring.Dispose();
        _vmKeys.Dispose();
    }
}
