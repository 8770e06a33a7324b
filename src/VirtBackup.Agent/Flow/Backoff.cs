using System.Buffers.Binary;
using VirtBackup.Core;

namespace VirtBackup.Agent.Flow;

/// <summary>
/// Waits between attempts: a window of 1 s doubling to 64 s, a uniformly random point inside it, so that many agents
/// that lost the same controller do not come back together. Not safe for concurrent use.
/// </summary>
internal sealed class Backoff(TimeProvider time, IEntropy entropy)
{
    private const int DoublingsMax = 6;
    private int _failures;

    public void Reset() => _failures = 0;

    public async Task WaitAsync(CancellationToken cancellationToken)
    {
        var window = TimeSpan.FromSeconds(1 << Math.Min(_failures, DoublingsMax));
        _failures++;
        await Task.Delay(window * Fraction(), time, cancellationToken);
    }

    private double Fraction()
    {
        Span<byte> bytes = stackalloc byte[4];
        entropy.Fill(bytes);
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes) / (double)uint.MaxValue;
    }
}
