using System.Text.Json;
using System.Text.Json.Serialization;
using VirtBackup.Catalog.Dependencies;
using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>What a recovery run is to do, settled when it was asked for and stored with its job: later changes of the graph do not touch it.</summary>
/// <param name="Parallel">Restores and starts side by side; 0: no limit.</param>
internal sealed record RecoveryPlan(bool DryRun, int Parallel, IReadOnlyList<PlannedMachine> Machines)
{
    private static readonly JsonSerializerOptions Format = new() { Converters = { new IdConverter() } };

    [JsonIgnore]
    public IReadOnlyList<Id16> Ids => [.. Machines.Select(static machine => machine.VmId)];

    [JsonIgnore]
    public DependencyGraph Graph => new(Machines.SelectMany(static machine => machine.Needs.Select(needed => new Dependency(machine.VmId, needed))));

    public static RecoveryPlan Read(ReadOnlySpan<byte> stored) => JsonSerializer.Deserialize<RecoveryPlan>(stored, Format)!;

    public byte[] ToBytes() => JsonSerializer.SerializeToUtf8Bytes(this, Format);

    public string NameOf(Id16 vmId) => Machines.First(machine => machine.VmId == vmId).VmName;

    /// <summary>Of the run's machines that this one's agent has.</summary>
    public int SideBySide(PlannedMachine machine)
    {
        var same = Machines.Count(other => other.Agent == machine.Agent);
        return Parallel == 0 ? same : Math.Min(same, Parallel);
    }

    private sealed class IdConverter : JsonConverter<Id16>
    {
        public override Id16 Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => Id16.Parse(reader.GetString()!);

        public override void Write(Utf8JsonWriter writer, Id16 value, JsonSerializerOptions options) => writer.WriteStringValue(value.ToString());
    }
}

/// <param name="PointMs">When the point was made, Unix milliseconds.</param>
/// <param name="Needs">Of the run's machines.</param>
/// <param name="Options">An encoded <see cref="RestoreOptions"/>.</param>
/// <param name="Probe">An encoded <see cref="ReadinessProbe"/>.</param>
internal sealed record PlannedMachine(Id16 VmId, string VmName, Id16 PointId, long PointMs, string Agent, IReadOnlyList<Id16> Needs, byte[] Options, byte[] Probe)
{
    [JsonIgnore]
    public RestoreOptions RestoreOptions => RestoreOptions.Parser.ParseFrom(Options);

    [JsonIgnore]
    public ReadinessProbe ReadinessProbe => ReadinessProbe.Parser.ParseFrom(Probe);

    [JsonIgnore]
    public string ProbeText => Probes.Describe(ReadinessProbe);
}
