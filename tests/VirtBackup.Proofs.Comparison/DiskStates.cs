using System.Globalization;
using System.Text;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Comparison;

/// <summary>
/// The disk before and after the change, as raw images, and what leads from one to the other: an image that begins with a table of
/// places, followed by the content for them. The guest itself writes it.
/// </summary>
/// <param name="ChangedBytes">Of the disk, by blocks of 64 KiB.</param>
/// <param name="DataBytes">That the disk holds before.</param>
internal sealed record DiskStates(string Before, string After, string Forward, string Back, long ChangedBytes, long DataBytes)
{
    public const int TableBytes = 1 << 20;
    public const int BlockBytes = 64 << 10;
    /// <summary>Places that are so near are written as one: a guest begins a program for each.</summary>
    private const int JoinBlocks = 4;

    private static readonly long[] Parts = [85, 10, 5];

    /// <param name="contentBytes">About so much is on the disk.</param>
    /// <param name="changeBytes">About so much changes.</param>
    public static async Task<DiskStates> MakeAsync(string? image, string folder, Random random, long contentBytes, long changeBytes, CancellationToken cancellationToken)
    {
        var after = Path.Combine(folder, "after.raw");
        var before = image ?? Path.Combine(folder, "before.raw");
        if (image is null) await InstallAsync(before, after, folder, random, contentBytes, changeBytes, cancellationToken);
        else await MoveAsync(image, after, random, changeBytes, cancellationToken);
        var (places, data) = await CompareAsync(before, after, cancellationToken);
        var forward = Path.Combine(folder, "forward.raw");
        var back = Path.Combine(folder, "back.raw");
        await WriteDeltaAsync(forward, after, places, cancellationToken);
        await WriteDeltaAsync(back, before, places, cancellationToken);
        return new DiskStates(before, after, forward, back, places.Sum(static place => (long)place.Blocks * BlockBytes), data);
    }

    /// <summary>
    /// A system of this machine's own files, with logs and with media that do not compress; then files written anew (a few bytes more at
    /// the beginning), a further package, more logs, more media.
    /// </summary>
    private static async Task InstallAsync(string before, string after, string folder, Random random, long contentBytes, long changeBytes, CancellationToken cancellationToken)
    {
        var tree = Path.Combine(folder, "tree");
        var fileBytesMax = Math.Min(32L << 20, changeBytes / 8);
        var files = await SystemImages.InstallAsync(tree, random, contentBytes * Parts[0] / 100, cancellationToken, fileBytesMax: fileBytesMax);
        await WriteLogsAsync(Path.Combine(tree, "logs"), contentBytes * Parts[1] / 100, random, cancellationToken);
        await WriteMediaAsync(Path.Combine(tree, "media"), contentBytes * Parts[2] / 100, random, cancellationToken);
        await SystemImages.MakeAsync(tree, before, contentBytes * 2, 16384, random, cancellationToken);
        var more = Path.Combine(folder, "more");
        await SystemImages.ChangeAsync(before, after, tree, Take(files, tree, changeBytes * 40 / 100, random), async _ =>
        {
            await SystemImages.InstallAsync(Path.Combine(more, "package"), random, changeBytes * 25 / 100, cancellationToken, files, fileBytesMax);
            await WriteLogsAsync(Path.Combine(more, "logs"), changeBytes * 25 / 100, random, cancellationToken);
            await WriteMediaAsync(Path.Combine(more, "media"), changeBytes * 10 / 100, random, cancellationToken);
            return [.. Directory.EnumerateFiles(more, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(static (path, i) => new ImageFile($"new-{i}", path))];
        }, random, cancellationToken);
        Directory.Delete(tree, recursive: true);
        Directory.Delete(more, recursive: true);
    }

    private static List<string> Take(List<string> files, string tree, long bytes, Random random)
    {
        var order = files.ToArray();
        random.Shuffle(order);
        return [.. order.TakeWhile(file => (bytes -= new FileInfo(Path.Combine(tree, file)).Length) > 0)];
    }

    private static async Task WriteLogsAsync(string folder, long bytes, Random random, CancellationToken cancellationToken)
    {
        const int fileBytes = 4 << 20;
        Directory.CreateDirectory(folder);
        for (var i = 0; bytes > 0; i++, bytes -= fileBytes)
        {
            await File.WriteAllTextAsync(Path.Combine(folder, $"{i}.log"), SystemImages.WriteLog(Math.Min(bytes, fileBytes), random), cancellationToken);
        }
    }

    private static async Task WriteMediaAsync(string folder, long bytes, Random random, CancellationToken cancellationToken)
    {
        const int fileBytes = 8 << 20;
        Directory.CreateDirectory(folder);
        for (var i = 0; bytes > 0; i++, bytes -= fileBytes)
        {
            var content = new byte[Math.Min(bytes, fileBytes)];
            random.NextBytes(content);
            await File.WriteAllBytesAsync(Path.Combine(folder, $"{i}.bin"), content, cancellationToken);
        }
    }

    /// <summary>Copies an image of somebody's and writes parts of it over other places, a little of each new: so do file systems that write files anew.</summary>
    private static async Task MoveAsync(string image, string path, Random random, long bytes, CancellationToken cancellationToken)
    {
        await Proc.CheckAsync("cp", ["--sparse=always", image, path], Patience.Image, cancellationToken);
        await using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite);
        var blocks = file.Length / BlockBytes;
        for (var left = bytes / BlockBytes; left > 0;)
        {
            var run = new byte[(int)Math.Min(left, 16 + random.Next(64)) * BlockBytes];
            if (run.Length > file.Length) throw new RefutedException($"{image} is too small to change {bytes >> 20} MiB of it");
            file.Position = random.NextInt64(blocks - (run.Length / BlockBytes) + 1) * BlockBytes;
            await file.ReadExactlyAsync(run, cancellationToken);
            for (var at = 0; at < run.Length; at += BlockBytes) random.NextBytes(run.AsSpan(at + random.Next(BlockBytes - 64), 64));
            file.Position = random.NextInt64(blocks - (run.Length / BlockBytes) + 1) * BlockBytes;
            await file.WriteAsync(run, cancellationToken);
            left -= run.Length / BlockBytes;
        }
    }

    private static async Task<(IReadOnlyList<Place> Places, long DataBytes)> CompareAsync(string before, string after, CancellationToken cancellationToken)
    {
        var places = new List<Place>();
        long data = 0;
        await using var left = File.OpenRead(before);
        await using var right = File.OpenRead(after);
        if (left.Length != right.Length || left.Length % BlockBytes != 0) throw new RefutedException($"the disk's length must be a multiple of {BlockBytes}: {left.Length} and {right.Length}");
        byte[] one = new byte[BlockBytes], other = new byte[BlockBytes];
        for (var block = 0; block < left.Length / BlockBytes; block++)
        {
            await left.ReadExactlyAsync(one, cancellationToken);
            await right.ReadExactlyAsync(other, cancellationToken);
            if (one.AsSpan().ContainsAnyExcept((byte)0)) data += BlockBytes;
            if (one.AsSpan().SequenceEqual(other)) continue;
            if (places.Count > 0 && block - places[^1].End <= JoinBlocks) places[^1] = places[^1] with { Blocks = block + 1 - places[^1].First };
            else places.Add(new Place(block, 1));
        }
        return (places, data);
    }

    private static async Task WriteDeltaAsync(string path, string image, IReadOnlyList<Place> places, CancellationToken cancellationToken)
    {
        var table = new StringBuilder();
        var next = TableBytes / BlockBytes;
        await using var source = File.OpenRead(image);
        await using var file = File.Create(path);
        foreach (var place in places)
        {
            table.Append(CultureInfo.InvariantCulture, $"{next} {place.First} {place.Blocks}\n");
            file.Position = (long)next * BlockBytes;
            source.Position = (long)place.First * BlockBytes;
            for (var i = 0; i < place.Blocks; i++)
            {
                var block = new byte[BlockBytes];
                await source.ReadExactlyAsync(block, cancellationToken);
                await file.WriteAsync(block, cancellationToken);
            }
            next += place.Blocks;
        }
        if (table.Length > TableBytes) throw new RefutedException($"{places.Count} places change, more than the guest can be told");
        file.Position = 0;
        await file.WriteAsync(Encoding.ASCII.GetBytes(table.ToString()), cancellationToken);
    }

    private readonly record struct Place(int First, int Blocks)
    {
        public int End => First + Blocks;
    }
}
