using CsCheck;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Format.Tests;

public sealed class GeometryTests
{
    [Theory]
    [InlineData(0, 0, 0)]
    [InlineData(1, 0, 1)]
    [InlineData(16L << 20, 0, 1)]
    [InlineData((16L << 20) + 1, 1, 2)]
    [InlineData(1L << 30, 1, 64)]
    [InlineData((1L << 30) + 1, 2, 65)]
    [InlineData(1L << 40, 3, 65536)]
    [InlineData(1L << 56, 6, 1L << 32)]
    public void Height_and_leaves_follow_from_the_length(long length, int height, long leaves)
    {
        var geometry = new MapGeometry(MapShape.Default, length);
        Assert.Equal((height, leaves), (geometry.Height, geometry.LeafCount));
    }

    [Fact]
    public void Children_cover_their_parents_exactly() =>
        Gen.Select(Gen.Long[1, 1L << 40], Gen.Byte[12, 22], Gen.Byte[0, 8]).Sample((length, chunk, more) =>
        {
            var geometry = new MapGeometry(new MapShape(Chunker.Fixed, chunk, (byte)(chunk + more)), length);
            if (geometry.Root.Length != length || geometry.NodeCountOf(geometry.Height) != 1 || geometry.NodeCountOf(0) != geometry.LeafCount)
            {
                return false;
            }
            // Descend along the right edge, where the tail is, and along the left.
            var (left, right, index) = (geometry.Root, geometry.Root, 0L);
            for (var level = geometry.Height; level > 0; level--)
            {
                long sum = 0;
                for (var i = 0; i < right.ChildCount; i++)
                {
                    sum += right.Child(i).Length;
                }
                index = (index * 64) + right.ChildCount - 1;
                if (sum != right.Length || right.ChildCount is < 1 or > 64
                    || right.Child(right.ChildCount - 1) != geometry.PlaceOf(level - 1, index) || left.Child(0) != geometry.PlaceOf(level - 1, 0))
                {
                    return false;
                }
                (left, right) = (left.Child(0), right.Child(right.ChildCount - 1));
            }
            return index == geometry.LeafCount - 1 && geometry.IndexOf(0, length - 1) == index
                && geometry.OffsetOf(0, index) + right.Length == length;
        });

    [Theory]
    [InlineData(0, 18, 24)]
    [InlineData(3, 18, 24)]
    [InlineData(1, 11, 17)]
    [InlineData(1, 23, 29)]
    [InlineData(1, 18, 17)]
    [InlineData(1, 18, 27)]
    public void Bad_parameters_are_refused(byte chunker, byte chunk, byte span) =>
        Assert.Throws<FaultException>(() => new MapGeometry(new MapShape((Chunker)chunker, chunk, span), 1));

    [Fact]
    public void Bad_lengths_are_refused()
    {
        Assert.Throws<FaultException>(() => new MapGeometry(MapShape.Default, -1));
        Assert.Throws<FaultException>(() => new MapGeometry(MapShape.Default, Limits.DiskBytesMax + 1));
        Assert.Equal(8, new MapGeometry(new MapShape(Chunker.Fixed, 12, 12), Limits.DiskBytesMax).Height);
    }
}
