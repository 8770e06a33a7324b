using VirtBackup.Format.Maps;

namespace VirtBackup.Format.Tests;

/// <summary>Where chunks end: as a slow cutter says that looks at one byte after the other, and from as few bytes as show it.</summary>
public sealed class ContentCutterTests
{
    private static readonly MapShape Shape = Samples.SmallContentShape;

    [Fact]
    public void Cuts_are_those_of_a_slow_cutter_and_are_found_in_the_fewest_bytes()
    {
        var compared = 0;
        for (var seed = 0; seed < 60; seed++)
        {
            var random = new Random(seed);
            var gear = Enumerable.Range(0, 256).Select(_ => (ulong)random.NextInt64(long.MinValue, long.MaxValue)).ToArray();
            var cutter = new ContentCutter(Shape, gear);
            var content = Content(random);
            for (var at = 0; at < content.Length;)
            {
                var rest = content.AsSpan(at);
                var cut = cutter.Next(rest, at, reachesEnd: true);
                if (!cut.IsZero && !rest[..Math.Min(rest.Length, cut.Length + ContentCutter.ZeroRunBytes)].Contains((byte)0))
                {
                    Assert.Equal(Slow(rest, gear), cut.Length);
                    compared++;
                }
                for (var length = 1; length < Math.Min(rest.Length, cutter.LookaheadBytes + 2); length += 1 + random.Next(700))
                {
                    if (cutter.TryNext(rest[..length], at, reachesEnd: false, out var early))
                    {
                        Assert.Equal(cut, early);
                    }
                    else
                    {
                        Assert.True(length < cut.Length + ContentCutter.ZeroRunBytes && length < cutter.LookaheadBytes);
                    }
                }
                at += cut.Length;
            }
        }
        Assert.InRange(compared, 500, int.MaxValue);
    }

    /// <summary>Noise and text, with runs of zeros here and there.</summary>
    private static byte[] Content(Random random)
    {
        var content = new byte[(128 << 10) + random.Next(9000)];
        // Without zeros, so that every one is of a run.
        for (var i = 0; i < content.Length; i++)
        {
            content[i] = (byte)(1 + random.Next(255));
        }
        for (var runs = random.Next(5); runs > 0; runs--)
        {
            var at = random.Next(content.Length);
            content.AsSpan(at, Math.Min(content.Length - at, random.Next(40_000))).Fill((byte)(random.Next(3) == 0 ? 'a' : 0));
        }
        return content;
    }

    private static int Slow(ReadOnlySpan<byte> bytes, ulong[] gear)
    {
        var (average, max) = (Shape.ChunkBytes, Math.Min(bytes.Length, Shape.ChunkBytesMax));
        var min = average / 4;
        ulong hash = 0;
        for (var at = Math.Max(0, min - 64); at < max; at++)
        {
            hash = (hash << 1) + gear[bytes[at]];
            var bits = at < average ? Shape.ChunkLog2 + 2 : Shape.ChunkLog2 - 2;
            if (at >= min && hash >> (64 - bits) == 0)
            {
                return at + 1;
            }
        }
        return max;
    }
}
