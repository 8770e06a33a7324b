using VirtBackup.Core;

namespace VirtBackup.Proofs.Simulation;

/// <summary>The same bytes for the same seed. Safe for concurrent use.</summary>
internal sealed class SeededEntropy(int seed) : IEntropy
{
    private readonly Random _random = new(seed);

    public void Fill(Span<byte> destination)
    {
        lock (_random)
        {
            _random.NextBytes(destination);
        }
    }
}
