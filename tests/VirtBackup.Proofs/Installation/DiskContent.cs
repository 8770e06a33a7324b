namespace VirtBackup.Proofs.Installation;

/// <summary>Seeded disks: chunks of zeros, of noise, of text that compresses, and chunks that occur more than once.</summary>
internal static class DiskContent
{
    public const int Chunk = 256 << 10;

    public static byte[] Create(Random random, int length, int chunks)
    {
        var disk = new byte[length];
        for (var i = 0; i < chunks; i++)
        {
            var offset = random.Next((length + Chunk - 1) / Chunk) * Chunk;
            Fill(random, disk.AsSpan(offset, Math.Min(Chunk, length - offset)));
        }
        return disk;
    }

    public static void Fill(Random random, Span<byte> target)
    {
        switch (random.Next(5))
        {
            case 0:
                target.Clear();
                break;
            case 1:
                // One of a few contents, so that chunks are shared.
                new Random(random.Next(3)).NextBytes(target);
                break;
            case 2:
                for (var i = 0; i < target.Length; i++)
                {
                    target[i] = (byte)('a' + random.Next(4));
                }
                break;
            default:
                random.NextBytes(target);
                break;
        }
    }
}
