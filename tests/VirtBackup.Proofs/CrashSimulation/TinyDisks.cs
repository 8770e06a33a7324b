using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>Disks of the smallest chunks, with maps of several levels. Chunks are zeros, noise, text, or one of a few that many disks share.</summary>
internal static class TinyDisks
{
    /// <summary>A leaf has four chunks, so that a map of two inner levels takes a megabyte of mostly nothing.</summary>
    public static readonly MapShape Shape = new(Chunker.Fixed, MapShape.ChunkLog2Min, MapShape.ChunkLog2Min + 2);

    private const int Chunk = 1 << MapShape.ChunkLog2Min;
    private const int SharedContents = 6;
    private const int SetBackOneIn = 2;

    public static byte[] Create(Random random)
    {
        var disk = new byte[random.Next(4) == 0 ? (1 << 20) + random.Next(1 << 17) : random.Next(1, 24 * Chunk)];
        for (var chunks = random.Next(2, 9); chunks > 0; chunks--)
        {
            var offset = random.Next((disk.Length + Chunk - 1) / Chunk) * Chunk;
            Fill(random, disk.AsSpan(offset, Math.Min(Chunk, disk.Length - offset)));
        }
        return disk;
    }

    /// <summary>A guest writes: whole chunks, and parts of them. Sometimes all its disks are first set back to what they were before.</summary>
    public static void Change(Random random, FakeHypervisor machine, IReadOnlyList<IReadOnlyDictionary<Id16, byte[]>> earlier)
    {
        if (earlier.Count > 0 && random.Next(SetBackOneIn) == 0)
        {
            SetBack(machine, earlier[random.Next(earlier.Count)]);
        }
        for (var writes = random.Next(0, 5); writes > 0; writes--)
        {
            var disk = machine.Disks[random.Next(machine.Disks.Count)];
            var isWhole = random.Next(3) > 0;
            var offset = isWhole ? random.Next((disk.Content.Length + Chunk - 1) / Chunk) * Chunk : random.Next(disk.Content.Length);
            var data = new byte[Math.Min(isWhole ? Chunk : random.Next(1, 2 * Chunk), disk.Content.Length - offset)];
            Fill(random, data);
            disk.Write(offset, data);
        }
    }

    public static void SetBack(FakeHypervisor machine, IReadOnlyDictionary<Id16, byte[]> disks)
    {
        foreach (var disk in machine.Disks)
        {
            disk.Write(0, disks[disk.Summary.Id]);
        }
    }

    private static void Fill(Random random, Span<byte> target)
    {
        switch (random.Next(6))
        {
            case 0:
                target.Clear();
                break;
            case 1 or 2:
                new Random(random.Next(SharedContents)).NextBytes(target);
                break;
            case 3:
                target.Fill((byte)random.Next(1, 4));
                break;
            default:
                random.NextBytes(target);
                break;
        }
    }
}
