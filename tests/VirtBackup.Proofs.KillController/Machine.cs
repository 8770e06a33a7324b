using System.Security.Cryptography;

namespace VirtBackup.Proofs.KillController;

/// <summary>A powered-off machine: an image that changes between backups.</summary>
internal sealed class Machine(string name, string image)
{
    private const int Bytes = 8 << 20;
    private const int WritesMax = 8;
    private const int WriteBytes = 256 << 10;

    public string Name => name;

    public string Image => image;

    public Guid Uuid { get; } = Guid.NewGuid();

    /// <summary>Of the present content, SHA-256, hex.</summary>
    public string Hash { get; private set; } = "";

    public void Create(Random random)
    {
        var content = new byte[Bytes];
        // The second half compresses well, the first not at all.
        random.NextBytes(content.AsSpan(0, Bytes / 2));
        for (var i = Bytes / 2; i < Bytes; i += sizeof(long)) content[i] = (byte)random.Next(8);
        File.WriteAllBytes(image, content);
        Hash = HashOf(image);
    }

    public void Change(Random random)
    {
        using (var file = File.OpenHandle(image, FileMode.Open, FileAccess.Write))
        {
            for (var writes = random.Next(1, WritesMax + 1); writes > 0; writes--)
            {
                var data = new byte[random.Next(1, WriteBytes)];
                random.NextBytes(data);
                RandomAccess.Write(file, data, random.Next(Bytes - data.Length));
            }
        }
        Hash = HashOf(image);
    }

    public static string HashOf(string path)
    {
        using var file = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(file));
    }
}
