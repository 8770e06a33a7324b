using System.Reflection;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Protocol.Tests;

/// <summary>
/// Programs of different versions talk to each other: what was once on the wire keeps its name, number and type. After an
/// addition, run with VIRTBACKUP_REGENERATE set to the path of Golden/protocol.binpb and commit the file.
/// </summary>
public sealed class GoldenDescriptorTests
{
    private static FileDescriptorSet Current => new()
    {
        File =
        {
            WithImports(Generated).Select(file => FileDescriptorProto.Parser.ParseFrom(file.SerializedData)),
        },
    };

    /// <summary>All that Protocol generates: a list by hand would let the file of a new service be forgotten.</summary>
    private static IEnumerable<FileDescriptor> Generated =>
        typeof(AgentServiceReflection).Assembly.GetExportedTypes()
            .Select(static type => type.GetProperty("Descriptor", BindingFlags.Public | BindingFlags.Static)?.GetValue(null)).OfType<FileDescriptor>()
            .OrderBy(static file => file.Name, StringComparer.Ordinal);

    [Fact]
    public void The_wire_is_compatible_with_the_golden_file()
    {
        if (Environment.GetEnvironmentVariable("VIRTBACKUP_REGENERATE") is { Length: > 0 } path)
        {
            Assert.Empty(File.Exists(path) ? WireCompatibility.FindBreaks(FileDescriptorSet.Parser.ParseFrom(File.ReadAllBytes(path)), Current) : []);
            File.WriteAllBytes(path, Current.ToByteArray());
            return;
        }
        Assert.Equal([], WireCompatibility.FindBreaks(ReadGolden(), Current));
    }

    [Fact]
    public void The_golden_file_knows_everything_that_is_on_the_wire() =>
        // Otherwise an addition could be taken back or changed unseen.
        Assert.Equal([], WireCompatibility.FindBreaks(Current, ReadGolden()));

    [Fact]
    public void Breaks_are_found()
    {
        Assert.Contains("is gone", BreakOf(set => Request(set).Field.RemoveAt(0)));
        Assert.Contains("is now called", BreakOf(set => Request(set).Field[0].Name = "other"));
        Assert.Contains("has another type", BreakOf(set => Request(set).Field[0].Type = FieldDescriptorProto.Types.Type.Bytes));
        Assert.Contains("is gone", BreakOf(set => Request(set).Field[0].Number = 99));
        Assert.Contains("message virtbackup.store.v1.BeginSessionRequest is gone", BreakOf(set => Request(set).Name = "Renamed"));
        Assert.Contains("has another shape", BreakOf(set => Store(set).Service[0].Method[0].ServerStreaming = true));
        Assert.Contains("renamed", BreakOf(set => set.File.First(file => file.EnumType.Count > 0).EnumType[0].Value[1].Name = "OTHER"));
        Assert.Contains("oneofs", BreakOf(set => set.File.SelectMany(file => file.MessageType).First(message => message.Name == "ConnectRequest").Field[0].ClearOneofIndex()));
    }

    [Fact]
    public void Additions_are_no_breaks()
    {
        var current = Current;
        Request(current).Field.Add(new FieldDescriptorProto { Name = "more", Number = 99, Type = FieldDescriptorProto.Types.Type.String });
        Store(current).MessageType.Add(new DescriptorProto { Name = "More" });
        Assert.Empty(WireCompatibility.FindBreaks(Current, current));
    }

    private static string BreakOf(Action<FileDescriptorSet> change)
    {
        var changed = Current;
        change(changed);
        return string.Join('\n', WireCompatibility.FindBreaks(Current, changed));
    }

    private static FileDescriptorProto Store(FileDescriptorSet set) => set.File.First(file => file.Package == "virtbackup.store.v1");

    private static DescriptorProto Request(FileDescriptorSet set) => Store(set).MessageType.First(message => message.Name == "BeginSessionRequest");

    private static FileDescriptorSet ReadGolden()
    {
        using var stream = typeof(GoldenDescriptorTests).Assembly.GetManifestResourceStream("protocol.binpb");
        Assert.NotNull(stream);
        return FileDescriptorSet.Parser.ParseFrom(stream);
    }

    /// <summary>The files of services with all that they import, each behind what it imports.</summary>
    private static List<FileDescriptor> WithImports(IEnumerable<FileDescriptor> services)
    {
        var files = new List<FileDescriptor>();
        foreach (var service in services)
        {
            Add(service);
        }
        return files;

        void Add(FileDescriptor file)
        {
            if (file.Package.StartsWith("virtbackup.", StringComparison.Ordinal) && !files.Contains(file))
            {
                foreach (var import in file.Dependencies)
                {
                    Add(import);
                }
                files.Add(file);
            }
        }
    }
}
