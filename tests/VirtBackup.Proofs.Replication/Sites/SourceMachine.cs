using System.Security.Cryptography;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.Sites;

/// <summary>A powered-off machine with one raw disk, and what each of its recovery points holds. One caller at a time.</summary>
internal sealed class SourceMachine(string name, string image)
{
    private const int BlockBytes = 1 << 20;
    private readonly Dictionary<string, string> _points = new(StringComparer.Ordinal);

    public string Name => name;

    public Guid Uuid { get; } = Guid.NewGuid();

    public string Image => image;

    /// <summary>Its recovery points, oldest first.</summary>
    public IReadOnlyCollection<string> Points => _points.Keys;

    public InstalledImage Disk => new(image, LabDiskFormat.Raw, "disk");

    /// <summary>A sparse disk of that many bytes.</summary>
    public void Create(long bytes)
    {
        using var file = File.Create(image);
        file.SetLength(bytes);
    }

    /// <summary>Writes bytes of chance, which no compression makes less.</summary>
    /// <param name="offset">Where; the next bytes wrap at the disk's end.</param>
    public void Write(Random random, long offset, long bytes)
    {
        using var file = File.OpenHandle(image, FileMode.Open, FileAccess.Write);
        var length = RandomAccess.GetLength(file);
        var block = new byte[BlockBytes];
        for (long done = 0; done < bytes;)
        {
            var at = (offset + done) % length;
            var part = block.AsSpan(0, (int)Math.Min(Math.Min(BlockBytes, bytes - done), length - at));
            random.NextBytes(part);
            RandomAccess.Write(file, part, at);
            done += part.Length;
        }
    }

    /// <summary>Backs it up and notes what the recovery point holds.</summary>
    /// <param name="isHashed">False: it is only noted that the point is there.</param>
    /// <returns>The recovery point.</returns>
    public async Task<string> BackUpAsync(Installation site, bool isHashed = true)
    {
        var hash = isHashed ? HashOf(image) : "";
        var point = (await site.BackUpAsync(name)).GetProperty("point_id").GetString()!;
        _points.Add(point, hash);
        return point;
    }

    public bool Knows(string point) => _points.ContainsKey(point);

    /// <exception cref="RefutedException">The disk is not what the machine held at that point.</exception>
    public void Require(string point, string disk, string where)
    {
        if (HashOf(disk) != _points[point]) throw new RefutedException($"the recovery point {point} of {name}, restored at {where}, is not what the machine held");
    }

    private static string HashOf(string path)
    {
        using var file = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(file));
    }
}
