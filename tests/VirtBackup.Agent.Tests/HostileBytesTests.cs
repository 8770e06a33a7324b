using CsCheck;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Control;
using VirtBackup.Agent.Host;
using VirtBackup.Agent.State;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Tests;

namespace VirtBackup.Agent.Tests;

/// <summary>Whatever stands in the agent's files and in operators' requests, the answer is a fault or something sound.</summary>
public sealed class HostileBytesTests : IDisposable
{
    private const string Settings = """
        home: /var/lib/a
        fleece_folder: /var/lib/f
        controller: host:7443
        workers: 3
        machines:
          - name: web1
            uuid: 8c8f0f0e-0000-4000-8000-000000000001
            qmp: /run/q
            guest_agent: /run/g
        images:
          - name: old
            uuid: 8c8f0f0e-0000-4000-8000-000000000002
            disks:
              - name: a
                path: /srv/a.raw
                format: raw
              - path: /srv/b.qcow2
                format: qcow2
        """;

    private static readonly string[] Fragments =
        ["", "~", "[]", "{}", "- ", ": ", "\n", "\t", "&a ", "*a", "!!int ", "|", "\"", "'", "raw", "vmdk", "-1", "99999999999", "/x", "00", "null", "name: web1", "  disks:\n", "\u0000", "é", "%", "<<: *a", "? "];

    private readonly string _folder = Directory.CreateTempSubdirectory("vb-hostile-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Agent_yaml_is_sound_or_refused_with_its_path()
    {
        var path = Path.Combine(_folder, "agent.yaml");
        Gen.Select(Gen.Int[0, Settings.Length], Gen.Int[0, 40], Gen.Int[0, Fragments.Length - 1]).Array[0, 3].Sample(edits =>
        {
            var text = Settings;
            foreach (var (at, cut, fragment) in edits)
            {
                var start = Math.Min(at, text.Length);
                text = text[..start] + Fragments[fragment] + text[Math.Min(text.Length, start + cut)..];
            }
            File.WriteAllText(path, text);
            try
            {
                var settings = AgentSettings.Load(path);
                // What passes can be built on.
                Assert.All(settings.ToQemuMachines(), machine => Assert.False(machine.Uuid.IsEmpty));
                Assert.All(settings.ToImageMachines().SelectMany(machine => machine.Images), image => Assert.True(Path.IsPathRooted(image.Path) && image.Format is "raw" or "qcow2"));
            }
            catch (FaultException fault)
            {
                Assert.Contains(path, fault.Message, StringComparison.Ordinal);
            }
        }, iter: 2000, threads: 1);
    }

    [Theory]
    [InlineData("images:\n  - name: old\n    uuid: 8c8f0f0e-0000-4000-8000-000000000002\n    disks:\n      -\n")]
    [InlineData("images:\n  - name: old\n    uuid: 8c8f0f0e-0000-4000-8000-000000000002\n    disks:\n")]
    [InlineData("images:\n  -\n")]
    [InlineData("machines:\n  -\n")]
    public void An_empty_entry_is_refused(string text)
    {
        var path = Path.Combine(_folder, "agent.yaml");
        File.WriteAllText(path, text);
        Assert.StartsWith($"{path}: an entry of ", Assert.Throws<FaultException>(() => AgentSettings.Load(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Chunks_have_names()
    {
        var path = Path.Combine(_folder, "agent.yaml");
        File.WriteAllText(path, "chunks: content-128K\n");
        Assert.Equal(Format.Maps.MapShape.Of(Format.Maps.Chunker.ContentDefined, 17), AgentSettings.Load(path).ToShape());
        File.WriteAllText(path, "chunks: big\n");
        Assert.Contains("chunks must be one of fixed-64K, ", Assert.Throws<FaultException>(() => AgentSettings.Load(path)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_empty_list_is_none()
    {
        var path = Path.Combine(_folder, "agent.yaml");
        File.WriteAllText(path, "machines:\nimages: ~\n");
        Assert.Empty(AgentSettings.Load(path).ToQemuMachines());
    }

    [Fact]
    public async Task A_damaged_record_of_earlier_points_counts_as_none()
    {
        var machine = new Id16(7);
        var store = new FileBaseStore(_folder);
        var record = new BaseRecord(new Id16(1), Id32.Parse(new string('a', 64)), [new BaseDisk(new Id16(2), 1 << 20, Format.Maps.MapShape.Default, Id32.Parse(new string('b', 64)))], [new Id16(3)]);
        await store.SaveAsync(machine, [record], CancellationToken.None);
        Assert.Single(await store.LoadAsync(machine, CancellationToken.None));
        var path = Path.Combine(_folder, $"{machine}.json");
        var text = await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken);
        Gen.Select(Gen.Int[0, text.Length], Gen.Int[0, 40], Gen.Int[0, Fragments.Length - 1]).Sample(edit =>
        {
            File.WriteAllText(path, text[..edit.Item1] + Fragments[edit.Item3] + text[Math.Min(text.Length, edit.Item1 + edit.Item2)..]);
            Assert.InRange(store.LoadAsync(machine, CancellationToken.None).AsTask().GetAwaiter().GetResult().Count, 0, 1);
        }, iter: 2000, threads: 1);
    }

    [Fact]
    public async Task A_record_brings_its_tokens_back_and_an_older_one_has_none()
    {
        var (machine, token, store) = (new Id16(8), "52 de c0/\"7\"", new FileBaseStore(_folder));
        var disk = new BaseDisk(new Id16(2), 1 << 20, Format.Maps.MapShape.Default, Id32.Parse(new string('b', 64)), token);
        await store.SaveAsync(machine, [new BaseRecord(new Id16(1), Id32.Parse(new string('a', 64)), [disk], [])], CancellationToken.None);
        Assert.Equal([disk], (await store.LoadAsync(machine, CancellationToken.None))[0].Disks);
        var path = Path.Combine(_folder, $"{machine}.json");
        var lines = await File.ReadAllTextAsync(path, TestContext.Current.CancellationToken);
        var older = System.Text.RegularExpressions.Regex.Replace(lines, ",\\s*\"base_token\": \"[^\n]*\"", "");
        Assert.NotEqual(lines, older);
        await File.WriteAllTextAsync(path, older, TestContext.Current.CancellationToken);
        Assert.Equal([disk with { BaseToken = "" }], (await store.LoadAsync(machine, CancellationToken.None))[0].Disks);
    }

    [Fact]
    public void Told_extents_are_sorted_disjoint_and_cover_what_was_told() =>
        Gen.Select(Gen.OneOf(Gen.ULong, Gen.ULong[0, 1000]), Gen.OneOf(Gen.ULong, Gen.ULong[0, 200])).Array[0, 20].Sample(pairs =>
        {
            var told = new ChangedExtents { DiskName = "a" };
            told.OffsetLength.Add(pairs.SelectMany(pair => new[] { pair.Item1, pair.Item2 }));
            IReadOnlyList<ByteRange> ranges;
            try
            {
                ranges = ToldExtents.Read([told])["a"];
            }
            catch (FaultException fault)
            {
                Assert.Contains(pairs, pair => pair.Item2 == 0 || pair.Item1 > (ulong)Limits.DiskBytesMax || pair.Item2 > (ulong)Limits.DiskBytesMax - pair.Item1);
                Assert.Equal(FaultReason.InvalidArgument, fault.Reason);
                return;
            }
            Assert.All(ranges.Zip(ranges.Skip(1)), two => Assert.True(two.First.End < two.Second.Offset));
            Assert.All(pairs, pair => Assert.Contains(ranges, range => range.Offset <= (long)pair.Item1 && (long)(pair.Item1 + pair.Item2) <= range.End));
        });

    [Fact]
    public void What_the_agent_tells_fits_into_control_messages()
    {
        for (var seed = 0; seed < 300; seed++)
        {
            var messages = new WireMessages(seed, ["web1"]);
            var inventory = messages.Next<Inventory>();
            var parts = ControlMessages.Split(inventory);
            Assert.All(parts, part => Assert.InRange(new ConnectRequest { Inventory = part }.CalculateSize(), 0, Limits.ControlMessageBytesMax));
            Assert.Equal(inventory.VirtualMachines.Select(machine => machine.VmId), parts.SelectMany(part => part.VirtualMachines).Select(machine => machine.VmId));
            Assert.Equal([.. Enumerable.Repeat(true, parts.Count - 1), false], parts.Select(part => part.More));
        }
        var many = new JobReport { State = JobState.Succeeded, Backup = new BackupResult { PointId = "p" } };
        many.Backup.Disks.AddRange(Enumerable.Range(0, 1024).Select(i => new DiskPlan { DiskId = new Id16((ulong)i).ToString(), Name = $"disk {i}", Reason = new string('r', 200) }));
        ControlMessages.Fit(many);
        Assert.InRange(new ConnectRequest { JobReport = many }.CalculateSize(), Limits.ControlMessageBytesMax / 2, Limits.ControlMessageBytesMax);
        Assert.Equal("p", many.Backup.PointId);
    }
}
