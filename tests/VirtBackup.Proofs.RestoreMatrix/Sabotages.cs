using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.RestoreMatrix;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string DropExtent = "drop-extent";
    public const string SwapBlocks = "swap-blocks";
    public const string ExpectChanged = "expect-changed";
    private const int Block = 4096;

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (DropExtent, "puts 4 KiB of a restored disk back to what they were at the recovery point before, or to zeros"),
        (SwapBlocks, "swaps two different blocks of 4 KiB of a restored disk"),
        (ExpectChanged, "expects changed blocks only where the matrix says that a disk is read in full, and the other way round"),
    ];

    /// <summary>Spoils a restored image as a lost extent, or a misplaced one, would.</summary>
    /// <param name="copy">What the disk held at its cut.</param>
    /// <param name="before">What it held at the point before; null: nothing.</param>
    public static async Task SpoilAsync(string sabotage, string image, string format, string copy, string? before)
    {
        var now = await File.ReadAllBytesAsync(copy);
        var then = new byte[now.Length];
        if (before is not null)
        {
            var earlier = await File.ReadAllBytesAsync(before);
            earlier.AsSpan(0, Math.Min(earlier.Length, then.Length)).CopyTo(then);
        }
        var changed = Enumerable.Range(0, now.Length / Block).Where(block => !BlockOf(now, block).SequenceEqual(BlockOf(then, block))).ToList();
        if (changed.Count == 0) throw new LabException($"The sabotage {sabotage} needs a disk that was written to; {copy} was not.");
        var first = changed[changed.Count / 2];
        if (sabotage == DropExtent)
        {
            await WriteAsync(image, format, first, BlockOf(then, first).ToArray());
            return;
        }
        var other = Enumerable.Range(0, now.Length / Block).First(block => !BlockOf(now, block).SequenceEqual(BlockOf(now, first)));
        await WriteAsync(image, format, first, BlockOf(now, other).ToArray());
        await WriteAsync(image, format, other, BlockOf(now, first).ToArray());
    }

    private static ReadOnlySpan<byte> BlockOf(byte[] content, int block) => content.AsSpan(block * Block, Block);

    private static async Task WriteAsync(string image, string format, int block, byte[] content)
    {
        using var scratch = new LabDirectory();
        await File.WriteAllBytesAsync(scratch.File("block"), content);
        await Proc.CheckAsync("qemu-io", ["-f", format, "-c", $"write -s {scratch.File("block")} {(long)block * Block} {Block}", image]);
    }
}
