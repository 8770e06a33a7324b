using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Proofs.Simulation;

namespace VirtBackup.Proofs.ScrubSpeed;

/// <summary>Planted defect: every read is cut into small ones, as if records were read one by one.</summary>
internal sealed class SmallReads(IObjectStore inner) : PassingStore(inner)
{
    private const int BytesMax = 256 << 10;

    public override async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        var total = 0;
        while (total < destination.Length)
        {
            var part = destination.Slice(total, Math.Min(BytesMax, destination.Length - total));
            var count = await base.ReadAsync(key, offset + total, part, cancellationToken);
            total += count;
            if (count < part.Length)
            {
                break;
            }
        }
        return total;
    }
}

/// <summary>Planted defect: what is read is hashed again and again.</summary>
internal sealed class HashingAgain(IObjectStore inner) : PassingStore(inner)
{
    private const int Times = 3;

    public override async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        var count = await base.ReadAsync(key, offset, destination, cancellationToken);
        for (var i = 0; i < Times; i++)
        {
            SHA256.HashData(destination.Span[..count]);
        }
        return count;
    }
}
