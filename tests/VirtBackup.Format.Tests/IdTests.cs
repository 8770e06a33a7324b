using System.Text.Json;
using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.Format.Tests;

public sealed class IdTests
{
    // Bytes that often agree at the front, for orders that later words decide.
    private static Gen<byte[]> Bytes(int size) => Gen.Select(Gen.Byte.Array[size], Gen.Int[0, size], (bytes, same) => (byte[])[.. Enumerable.Repeat((byte)7, same), .. bytes[same..]]);

    [Fact]
    public void Sixteen_bytes_are_read_written_printed_and_ordered_as_they_are() => Gen.Select(Bytes(Id16.Size), Bytes(Id16.Size)).Sample((left, right) =>
    {
        var (a, b) = (Id16.Read(left), Id16.Read(right));
        Assert.Equal(left, a.ToArray());
        Assert.Equal(Convert.ToHexStringLower(left), a.ToString());
        Assert.Equal(a, Id16.Parse(a.ToString()));
        Assert.Equal(a, Id16.Parse(a.ToUuidString().ToUpperInvariant()));
        Assert.Equal(a, new Id16(a.Value));
        Assert.Equal(Math.Sign(left.AsSpan().SequenceCompareTo(right)), Math.Sign(a.CompareTo(b)));
        Assert.Equal(left.AsSpan().SequenceEqual(right), a == b);
        var order = left.AsSpan().SequenceCompareTo(right);
        Assert.Equal([order < 0, order > 0, order <= 0, order >= 0], new[] { (a < b), (a > b), (a <= b), (a >= b) });
        Assert.Equal(left.All(static value => value == 0), a.IsEmpty);
    });

    [Fact]
    public void Thirty_two_bytes_are_read_written_printed_and_ordered_as_they_are() => Gen.Select(Bytes(Id32.Size), Bytes(Id32.Size)).Sample((left, right) =>
    {
        var (a, b) = (Id32.Read(left), Id32.Read(right));
        Assert.Equal(left, a.ToArray());
        Assert.Equal(Convert.ToHexStringLower(left), a.ToString());
        Assert.Equal(a, Id32.Parse(a.ToString()));
        Assert.Equal(Math.Sign(left.AsSpan().SequenceCompareTo(right)), Math.Sign(a.CompareTo(b)));
        Assert.Equal(left.AsSpan().SequenceEqual(right), a == b);
        var order = left.AsSpan().SequenceCompareTo(right);
        Assert.Equal([order < 0, order > 0, order <= 0, order >= 0], new[] { (a < b), (a > b), (a <= b), (a >= b) });
        Assert.Equal(left.Zip(right, static (x, y) => (byte)(x ^ y)).ToArray(), (a ^ b).ToArray());
        Assert.Equal(a, a ^ b ^ b);
        Assert.Equal(System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(left), a.Leading);
        Assert.Equal(left.All(static value => value == 0), a.IsZero);
    });

    [Fact]
    public void Documents_of_earlier_versions_are_read()
    {
        const string sixteen = """{"Value":5233100606242806050955395731361295,"IsEmpty":false}""";
        var id = Id16.Parse("000102030405060708090a0b0c0d0e0f");
        Assert.Equal(id, JsonSerializer.Deserialize<Id16>(sixteen));
        Assert.Equal(sixteen, JsonSerializer.Serialize(id));
        const string thirtyTwo = """{"High":1,"Low":340282366920938463463374607431768211455,"IsZero":false}""";
        var hash = new Id32(1, UInt128.MaxValue);
        Assert.Equal(hash, JsonSerializer.Deserialize<Id32>(thirtyTwo));
        Assert.Equal(hash, JsonSerializer.Deserialize<Id32>(JsonSerializer.Serialize(hash)));
    }

    [Theory]
    [InlineData("")]
    [InlineData("0123456789abcdef0123456789abcde")]
    [InlineData("0123456789abcdef0123456789abcdef0")]
    [InlineData("+123456789abcdef0123456789abcdef")]
    [InlineData("0123456789abcdef 123456789abcdef")]
    [InlineData("0123456789abcdefg123456789abcdef")]
    public void What_is_no_name_is_refused(string text)
    {
        Assert.False(Id16.TryParse(text, out var id));
        Assert.True(id.IsEmpty);
        Assert.Throws<FormatException>(() => Id16.Parse(text));
        Assert.Throws<FormatException>(() => Id32.Parse(text));
    }
}
