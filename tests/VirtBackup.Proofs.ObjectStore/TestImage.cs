namespace VirtBackup.Proofs.ObjectStore;

/// <summary>Disks made for the proof.</summary>
internal static class TestImage
{
    private const int BlockBytes = 1 << 20;

    /// <summary>A raw image, half of whose bytes can be compressed and none of which is zero for long.</summary>
    public static async Task<string> WriteAsync(string path, long length, Random random)
    {
        var block = new byte[BlockBytes];
        await using var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 20);
        for (long written = 0; written < length; written += BlockBytes)
        {
            random.NextBytes(block.AsSpan(0, BlockBytes / 2));
            block.AsSpan(BlockBytes / 2).Fill((byte)(1 + random.Next(250)));
            await file.WriteAsync(block.AsMemory(0, (int)Math.Min(BlockBytes, length - written)));
        }
        return path;
    }
}
