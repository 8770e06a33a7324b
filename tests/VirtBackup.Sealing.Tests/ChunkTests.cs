using System.Buffers.Binary;
using System.Security.Cryptography;
using CsCheck;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using ZstdSharp;

namespace VirtBackup.Sealing.Tests;

public sealed class ChunkTests
{
    [Fact]
    public void A_raw_record_is_golden()
    {
        var record = Fixtures.Seal(Fixtures.Small, out var id, out _, new CountingEntropy());
        Assert.Equal(Golden.SmallId, id.ToString());
        Assert.Equal(Golden.SmallRecord, Fixtures.Hex(record));
    }

    [Fact]
    public void Any_chunk_reads_back() =>
        Gen.Select(Gen.Int[1, 70_000], Gen.Int[0, 3], Gen.Int).Sample((length, texture, seed) =>
        {
            var plain = Fixtures.Random(length, seed);
            if (texture > 0)
            {
                for (var i = 0; i < plain.Length; i++)
                {
                    plain[i] &= (byte)(texture == 1 ? 0x0f : i % 64 == 0 ? 0x3f : 0);
                }
                plain[^1] |= 1;
            }
            var record = Fixtures.Seal(plain, out var id, out var secret);
            var header = RecordHeader.Parse(record);
            return header.RecordLength == record.Length && header.RawLength == length && header.Id == id && header.Scope == Fixtures.Scope
                && header.IdGeneration == 3 && record.Length <= ChunkSealer.RecordBytesMax(length)
                && Fixtures.Open(record, id, secret, length).AsSpan().SequenceEqual(plain);
        }, iter: 300);

    [Fact]
    public void Largest_chunk_reads_back_and_text_shrinks()
    {
        var plain = Fixtures.Random(Limits.ChunkBytesMax, 1);
        var record = Fixtures.Seal(plain, out var id, out var secret);
        Assert.Equal(RecordHeader.RecordBytesMax, record.Length);
        Assert.Equal(plain, Fixtures.Open(record, id, secret, plain.Length));
        var text = Fixtures.Seal(Fixtures.Text, out var textId, out var textSecret);
        Assert.Equal(RecordCodec.Zstd, RecordHeader.Parse(text).Codec);
        Assert.True(text.Length < 250);
        Assert.Equal(Fixtures.Text, Fixtures.Open(text, textId, textSecret, Fixtures.Text.Length));
    }

    [Fact]
    public void Zeros_have_the_zero_id()
    {
        using var sealer = new ChunkSealer(Fixtures.ChunkKeys(), SystemEntropy.Instance);
        Assert.False(sealer.ComputeId(new byte[262144], out var id, out var secret));
        Assert.Equal((Id32.Zero, default(ChunkSecret)), (id, secret));
        var almost = new byte[262144];
        almost[^1] = 1;
        Assert.True(sealer.ComputeId(almost, out id, out _));
        Assert.False(id.IsZero);
        Assert.Throws<InvariantException>(() => sealer.Seal(new byte[10], default, default, new byte[200]));
    }

    [Fact]
    public void Sealing_twice_never_repeats_a_nonce()
    {
        var first = Fixtures.Seal(Fixtures.Small, out var id, out _);
        var second = Fixtures.Seal(Fixtures.Small, out var again, out _);
        Assert.Equal(id, again);
        Assert.NotEqual(first[RecordHeader.Size..(RecordHeader.Size + 12)], second[RecordHeader.Size..(RecordHeader.Size + 12)]);
    }

    [Fact]
    public void Any_flipped_byte_is_refused()
    {
        foreach (var plain in new[] { Fixtures.Small, Fixtures.Text })
        {
            var record = Fixtures.Seal(plain, out var id, out var secret);
            for (var i = 0; i < record.Length; i++)
            {
                foreach (var repair in new[] { false, true })
                {
                    var damaged = record.ToArray();
                    damaged[i] ^= 0x04;
                    if (repair)
                    {
                        Repair(damaged);
                        if (damaged.AsSpan().SequenceEqual(record))
                        {
                            continue; // only the checksum itself was damaged
                        }
                    }
                    var fault = Fixtures.Refused(() => Fixtures.Open(damaged, id, secret, plain.Length));
                    Assert.True(fault.Reason is FaultReason.Corrupt or FaultReason.Denied);
                    Assert.Contains(id.ToString(), fault.Message, StringComparison.Ordinal);
                }
            }
        }
    }

    [Fact]
    public void Wrong_id_length_secret_and_key_are_refused()
    {
        var record = Fixtures.Seal(Fixtures.Text, out var id, out var secret);
        var other = Fixtures.Seal(Fixtures.Small, out var otherId, out var otherSecret);
        Assert.Contains("is that of chunk", Fixtures.Refused(() => Fixtures.Open(record, otherId, otherSecret, Fixtures.Text.Length)).Message, StringComparison.Ordinal);
        Assert.Contains("does not open", Fixtures.Refused(() => Fixtures.Open(record, id, otherSecret, Fixtures.Text.Length)).Message, StringComparison.Ordinal);
        Assert.Contains("where the map says", Fixtures.Refused(() => Fixtures.Open(record, id, secret, Fixtures.Text.Length + 1)).Message, StringComparison.Ordinal);
        Assert.Contains("where the map says", Fixtures.Refused(() => Fixtures.Open(other, otherId, otherSecret, 15)).Message, StringComparison.Ordinal);
        Assert.Contains("header", Fixtures.Refused(() => Fixtures.Open([.. record, 0], id, secret, Fixtures.Text.Length)).Message, StringComparison.Ordinal);
        using var ring = new ChunkKeyRing([Fixtures.IdKey(9)]);
        using var opener = new ChunkOpener(ring);
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => opener.Open(record, id, secret, new byte[Fixtures.Text.Length])).Reason);
    }

    /// <summary>Whoever knows t can make records that authenticate; their contents must still be the chunk's.</summary>
    [Fact]
    public void Authentic_records_with_other_contents_are_refused_and_cleared()
    {
        Fixtures.Seal(Fixtures.Text, out var id, out var secret);
        var forged = Forge(RecordCodec.Raw, Fixtures.Random(1700, 3), 1700, id, secret);
        using var keys = Fixtures.KeyRing();
        using var opener = new ChunkOpener(keys);
        var plain = new byte[1700];
        var fault = Fixtures.Refused(() => opener.Open(forged, id, secret, plain));
        Assert.Contains("contents do not match", fault.Message, StringComparison.Ordinal);
        Assert.False(plain.AsSpan().ContainsAnyExcept((byte)0));
    }

    [Fact]
    public void Bombs_and_odd_frames_are_refused()
    {
        Fixtures.Seal(Fixtures.Text, out var id, out var secret);
        var length = Fixtures.Text.Length;
        using var compressor = new Compressor(1);
        var right = compressor.Wrap(Fixtures.Text).ToArray();
        Assert.Equal(Fixtures.Text, Fixtures.Open(Forge(RecordCodec.Zstd, right, length, id, secret), id, secret, length));

        var bomb = compressor.Wrap(new byte[8 << 20]).ToArray();
        Assert.True(bomb.Length < length);
        Refused("not one frame", bomb);
        Refused("not one frame", [.. right, .. right]);
        Refused("not one frame", [.. right, 0]);
        Refused("not one frame", right[..^1]);
        Refused("not one frame", [.. right, 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]); // a skippable frame behind
        Refused("not one frame", compressor.Wrap(Fixtures.Text.AsSpan(1)).ToArray());
        // The bomb's frame header says what is expected, its blocks unpack to more: the output is capped.
        // Magic, single segment with a two-byte size, one RLE block of 128 KiB.
        byte[] liar = [0x28, 0xb5, 0x2f, 0xfd, 0x60, (byte)(length - 256), (byte)((length - 256) >> 8), 0x03, 0x00, 0x10, 0xff];
        Refused("compressed form is damaged", liar, "decompresses to another length");
        // A window of 8 MiB, stated outright.
        Refused("not one frame", [0x28, 0xb5, 0x2f, 0xfd, 0x40, 13 << 3, (byte)(length - 256), (byte)((length - 256) >> 8), .. right.AsSpan(7)]);
        var dictionary = right.ToArray();
        dictionary[4] |= 1;
        Refused("not one frame", dictionary);

        void Refused(string why, byte[] packed, string? orWhy = null)
        {
            var record = Forge(RecordCodec.Zstd, packed.Length > length - 1 ? packed[..(length - 1)] : packed, length, id, secret);
            var message = Fixtures.Refused(() => Fixtures.Open(record, id, secret, length)).Message;
            Assert.True(message.Contains(why, StringComparison.Ordinal) || (orWhy is not null && message.Contains(orWhy, StringComparison.Ordinal)), message);
        }
    }

    /// <summary>Random frames that authenticate: the opener refuses or returns the chunk, whatever the decompressor meets.</summary>
    [Fact]
    public void Damaged_but_authentic_frames_are_refused()
    {
        Fixtures.Seal(Fixtures.Text, out var id, out var secret);
        using var compressor = new Compressor(1);
        var right = compressor.Wrap(Fixtures.Text).ToArray();
        Gen.Select(Gen.Int[0, right.Length - 1], Gen.Byte).Array[1, 3].Sample(edits =>
        {
            var packed = right.ToArray();
            foreach (var (at, value) in edits)
            {
                packed[at] = value;
            }
            try
            {
                return Fixtures.Open(Forge(RecordCodec.Zstd, packed, Fixtures.Text.Length, id, secret), id, secret, Fixtures.Text.Length).AsSpan().SequenceEqual(Fixtures.Text);
            }
            catch (FaultException e)
            {
                return e.Reason == FaultReason.Corrupt;
            }
        }, iter: 3000);
    }

    [Fact]
    public void Sealing_allocates_almost_nothing_for_a_chunk()
    {
        using var sealer = new ChunkSealer(Fixtures.ChunkKeys(), SystemEntropy.Instance);
        using var keys = Fixtures.KeyRing();
        using var opener = new ChunkOpener(keys);
        using var vmKey = Fixtures.VmKey();
        var plain = Fixtures.Random(262144, 7);
        plain.AsSpan(0, 200_000).Fill(42);
        var record = new byte[ChunkSealer.RecordBytesMax(plain.Length)];
        var opened = new byte[plain.Length];
        Run(20);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Run(100);
        var perChunk = (GC.GetAllocatedBytesForCurrentThread() - before) / 100;
        Assert.True(perChunk < 300, $"{perChunk} bytes for a chunk named, sealed, masked, unmasked and opened");

        void Run(int count)
        {
            for (var i = 0; i < count; i++)
            {
                BinaryPrimitives.WriteInt32LittleEndian(plain, i + 1);
                sealer.ComputeId(plain, out var id, out var secret);
                var length = sealer.Seal(plain, id, secret, record);
                var unmasked = vmKey.Unmask(id, vmKey.Mask(id, secret));
                opener.Open(record.AsSpan(0, length), id, unmasked, opened);
            }
        }
    }

    private static byte[] Forge(RecordCodec codec, byte[] packed, int rawLength, Id32 id, ChunkSecret secret)
    {
        var header = new RecordHeader(RecordKind.Data, codec, rawLength, packed.Length + 28, id, Fixtures.Scope, 3);
        var record = new byte[header.RecordLength];
        header.Write(record);
        var key = new byte[32];
        secret.DeriveRecordKey(key);
        using var gcm = new AesGcm(key, 16);
        gcm.Encrypt(record.AsSpan(76, 12), packed, record.AsSpan(88, packed.Length), record.AsSpan(record.Length - 16), record.AsSpan(0, 72));
        return record;
    }

    private static void Repair(byte[] record) => BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(72), Crc32C.Compute(record.AsSpan(0, 72)));
}
