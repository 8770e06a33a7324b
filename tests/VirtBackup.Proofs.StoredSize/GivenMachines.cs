using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.StoredSize;

/// <summary>
/// The sequence of images that somebody gave. The first is a machine; a second day and a clone are made of it by writing
/// other parts of it over some places. Each further image is a machine of its own.
/// </summary>
internal static class GivenMachines
{
    private const int BlockBytes = 16 << 10;

    public static async Task<IReadOnlyList<Step>> PrepareAsync(IReadOnlyList<string> images, string folder, Random random, CancellationToken cancellationToken)
    {
        var secondDay = await ChangeAsync(images[0], Path.Combine(folder, "second-day.raw"), share: 0.01, random, cancellationToken);
        var clone = await ChangeAsync(secondDay, Path.Combine(folder, "clone.raw"), share: 0.001, random, cancellationToken);
        return
        [
            new Step("first day", 1, images[0]), new Step("second day", 1, secondDay), new Step("clone", 2, clone),
            .. images.Skip(1).Select(static (image, i) => new Step($"other {i + 1}", 3 + i, image)),
        ];
    }

    /// <summary>Copies the image and moves that share of its blocks, in runs, as file systems do that write files anew.</summary>
    private static async Task<string> ChangeAsync(string image, string path, double share, Random random, CancellationToken cancellationToken)
    {
        await Proc.CheckAsync("cp", ["--sparse=always", image, path], TimeSpan.FromMinutes(20), cancellationToken);
        await using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite);
        var blocks = file.Length / BlockBytes;
        for (var left = (long)(blocks * share); left > 0;)
        {
            var run = (int)Math.Min(left, 1 + random.Next(16));
            var bytes = new byte[run * BlockBytes];
            file.Position = random.NextInt64(Math.Max(1, blocks - run)) * BlockBytes;
            await file.ReadExactlyAsync(bytes, cancellationToken);
            // Something of it is new.
            random.NextBytes(bytes.AsSpan(random.Next(bytes.Length - 256), 256));
            file.Position = random.NextInt64(Math.Max(1, blocks - run)) * BlockBytes;
            await file.WriteAsync(bytes, cancellationToken);
            left -= run;
        }
        return path;
    }
}
