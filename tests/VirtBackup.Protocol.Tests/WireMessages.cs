using System.Collections;
using Google.Protobuf;
using Google.Protobuf.Reflection;

namespace VirtBackup.Protocol.Tests;

/// <summary>
/// Messages as a hostile peer may send them: every field of every kind with values at and beyond its bounds. The same seed
/// gives the same messages.
/// </summary>
/// <param name="words">Texts that mean something to the receiver, such as ids and names that it knows.</param>
internal sealed class WireMessages(int seed, IReadOnlyList<string> words)
{
    private const int DepthMax = 5;
    private static readonly string[] OddTexts =
        ["", " ", "\0", "zz", "-1", "@latest", "a@1", "../../etc/passwd", "/", "é\u202e", "00000000000000000000000000000000", "ffffffffffffffffffffffffffffffff", new('x', 5000)];
    private static readonly double[] OddFractions = [0, 1, 2.5, -1, double.NaN, double.PositiveInfinity, double.Epsilon, double.MaxValue];
    private readonly Random _random = new(seed);

    public T Next<T>()
        where T : IMessage, new()
    {
        var message = new T();
        Fill(message, 0);
        return message;
    }

    private void Fill(IMessage message, int depth)
    {
        var chosen = message.Descriptor.Oneofs.ToDictionary(static one => one, one => one.Fields[_random.Next(one.Fields.Count)]);
        foreach (var field in message.Descriptor.Fields.InFieldNumberOrder())
        {
            if ((field.ContainingOneof is { } one && chosen[one] != field) || _random.Next(10) == 0 || (field.FieldType == FieldType.Message && depth == DepthMax))
            {
                continue;
            }
            if (field.IsRepeated)
            {
                var list = (IList)field.Accessor.GetValue(message);
                var count = _random.Next(20) == 0 ? 300 : _random.Next(4);
                for (var i = 0; i < count; i++)
                {
                    list.Add(ValueOf(field, depth));
                }
            }
            else
            {
                field.Accessor.SetValue(message, ValueOf(field, depth));
            }
        }
    }

    private object ValueOf(FieldDescriptor field, int depth) => field.FieldType switch
    {
        FieldType.String => _random.Next(2) == 0 && words.Count > 0 ? words[_random.Next(words.Count)] : OddTexts[_random.Next(OddTexts.Length)],
        FieldType.Bytes => ByteString.CopyFrom(OddBytes()),
        FieldType.Bool => _random.Next(2) == 0,
        FieldType.Enum => Enum.ToObject(field.EnumType.ClrType, _random.Next(-1, 30)),
        FieldType.UInt32 => (uint)OddNumber(),
        FieldType.UInt64 => OddNumber(),
        FieldType.Int32 => (int)OddNumber(),
        FieldType.Int64 => (long)OddNumber(),
        FieldType.Double => OddFractions[_random.Next(OddFractions.Length)],
        FieldType.Message => Nested(field, depth),
        _ => throw new NotSupportedException($"{field.FullName} is of a type that has no odd values yet: add them."),
    };

    private IMessage Nested(FieldDescriptor field, int depth)
    {
        var message = (IMessage)Activator.CreateInstance(field.MessageType.ClrType)!;
        Fill(message, depth + 1);
        return message;
    }

    private ulong OddNumber() => _random.Next(8) switch
    {
        0 => 0,
        1 => 1,
        2 => (ulong)_random.Next(1000),
        3 => int.MaxValue,
        4 => uint.MaxValue,
        5 => long.MaxValue,
        6 => ulong.MaxValue,
        _ => 1UL << _random.Next(64),
    };

    private byte[] OddBytes()
    {
        var bytes = new byte[_random.Next(6) switch { 0 => 0, 1 => 16, 2 => 32, 3 => 32 * _random.Next(1, 300), 4 => _random.Next(70_000), _ => _random.Next(300) }];
        _random.NextBytes(bytes);
        return bytes;
    }
}
