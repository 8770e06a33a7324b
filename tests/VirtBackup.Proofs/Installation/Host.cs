using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Channels;
using Google.Protobuf;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Restore;
using VirtBackup.Agent.State;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Controller;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Transport;
using AuditOptions = VirtBackup.Agent.Auditing.AuditOptions;

namespace VirtBackup.Proofs.Installation;

/// <summary>How a host differs from the usual one.</summary>
internal sealed record HostOptions
{
    public string Name { get; init; } = "host-1";

    /// <summary>How its agent cuts disks.</summary>
    public MapShape Shape { get; init; } = MapShape.Default;

    /// <summary>The weather between it and the controller.</summary>
    public Random Weather { get; init; } = new(0);

    /// <summary>Whether disks and records are remembered as they were: what big disks do without. Then nobody may write during a backup.</summary>
    public bool IsWitnessed { get; init; } = true;

    /// <summary>How its agent audits change tracking.</summary>
    public AuditOptions Audit { get; init; } = AuditOptions.Off;

    /// <summary>What its agent takes for a machine's hypervisor.</summary>
    public Func<IHypervisor, IHypervisor> AlterHypervisor { get; init; } = static machine => machine;

    /// <summary>Where its agent keeps its base records.</summary>
    public Func<IBaseStore, IBaseStore> AlterBases { get; init; } = static bases => bases;

    /// <summary>Planted defect: what has arrived is called durable.</summary>
    public bool AcknowledgeEarly { get; init; }
}

/// <summary>A host with the real agent's runs, machines in memory, and what they looked like at every point.</summary>
internal sealed class Host : IDisposable
{
    private readonly Site _site;
    private readonly IEntropy _entropy;
    private readonly TimeProvider _time;
    private readonly HostOptions _options;
    private readonly ECDsa _signer;
    private readonly ECDsa _tlsKey;
    private readonly IBaseStore _bases;
    private readonly Queue<JobReport> _unheard = new();

    public Host(Site site, IEntropy entropy, TimeProvider time, HostOptions? options = null)
    {
        (_site, _entropy, _time, _options) = (site, entropy, time, options ?? new HostOptions());
        (_signer, _tlsKey) = (CreateKey(), CreateKey());
        _bases = _options.AlterBases(new MemoryBases());
        Acknowledged = new Acknowledged(site.Calendar, _options.IsWitnessed);
        Life = Begin();
    }

    public string Name => _options.Name;

    /// <summary>The agent's present process.</summary>
    public AgentLife Life { get; private set; }

    /// <summary>Whether that process has told the controller of its machines.</summary>
    public bool IsConnected { get; private set; }

    public Acknowledged Acknowledged { get; }

    /// <summary>Called when an answer to a probe has arrived.</summary>
    public Func<Task> Probed { get; set; } = static () => Task.CompletedTask;

    public Caller Caller { get; private set; } = null!;

    public List<FakeHypervisor> Machines { get; } = [];

    /// <summary>Of the newest backup.</summary>
    public RunProgress Progress { get; private set; } = new();

    /// <summary>Every point that a run was begun for: the bytes of the machine's disks at that moment.</summary>
    public Dictionary<Id16, (Id16 Machine, IReadOnlyDictionary<Id16, byte[]> Disks)> Sources { get; } = [];

    public FakeHypervisor AddMachine(params byte[][] disks)
    {
        var machine = new FakeHypervisor(Id16.Create(_entropy), [.. disks.Select((content, i) => new FakeDisk(Id16.Create(_entropy), $"disk{i}", content, isStill: !_options.IsWitnessed))]);
        Machines.Add(machine);
        return machine;
    }

    /// <summary>The agent's process begins anew: it knows what it has saved.</summary>
    public async Task RestartAsync(bool enroll)
    {
        Life.End();
        Acknowledged.MayBeOver();
        _unheard.Clear();
        Life = Begin();
        IsConnected = false;
        await (enroll ? EnrollAsync() : ConnectAsync());
    }

    public async Task EnrollAsync()
    {
        var role = _site.Role;
        var token = (await role.Admin.CreateJoinTokenAsync(new CreateJoinTokenRequest { AgentName = Name }, CancellationToken.None)).JoinToken;
        var signingRequest = SigningRequest.Create(_tlsKey);
        byte[] proof = [.. "virtbackup/1 enroll"u8, .. System.Text.Encoding.UTF8.GetBytes(Name), .. signingRequest];
        var response = await role.Enrollment.EnrollAsync(
            new EnrollRequest
            {
                JoinToken = token,
                AgentName = Name,
                CertificateSigningRequest = ByteString.CopyFrom(signingRequest),
                SigningPublicKey = ByteString.CopyFrom(_signer.ExportSubjectPublicKeyInfo()),
                SigningKeyProof = ByteString.CopyFrom(_signer.SignData(proof, HashAlgorithmName.SHA256)),
            },
            CancellationToken.None);
        using var certificate = X509Certificate2.CreateFromPem(response.CertificateChain.ToStringUtf8());
        Caller = Caller.From(PeerIdentity.FromCertificate(certificate));
        await ConnectAsync();
    }

    /// <summary>One backup, from the operator's order to the agent's report; of the job that a former process left, if there is one.</summary>
    /// <returns>The recovery point.</returns>
    /// <exception cref="FaultException">It failed, and was reported so.</exception>
    public async Task<Id16> BackUpAsync(FakeHypervisor machine, CancellationToken cancellationToken, bool full = false)
    {
        var life = Life;
        await ReportAsync(null);
        var job = Assignments().FirstOrDefault(job => job.Backup?.VmId == machine.Machine.ToString());
        if (job is null)
        {
            var order = new StartBackupRequest { Vm = machine.Machine.ToString(), Options = new BackupOptions { Full = full } };
            var ordered = (await _site.Role.Admin.StartBackupAsync(order, CancellationToken.None)).Job;
            job = Assignments().Single(job => job.JobId == ordered.JobId);
        }
        await ReportAsync(ReportOf(job, report => report.State = JobState.Running));
        var point = Id16.Parse(job.Backup.PointId);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, life.Over);
        try
        {
            var hypervisor = new MortalHypervisor(_options.AlterHypervisor(machine), life, Witness);
            Progress = new RunProgress();
            var result = await new BackupRun(life.Context, hypervisor, job, machine.Machine, point, Progress).RunAsync(stop.Token);
            await ReportAsync(ReportOf(job, report => report.Backup = result), life);
        }
        catch (FaultException fault)
        {
            await ReportAsync(ReportOf(job, report => (report.State, report.FailureMessage) = (JobState.Failed, fault.Message)), life);
            throw;
        }
        return point;

        void Witness()
        {
            if (_options.IsWitnessed)
            {
                Sources[point] = (machine.Machine, machine.Disks.ToDictionary(disk => disk.Summary.Id, disk => disk.Content.ToArray()));
            }
        }
    }

    /// <summary>Restores a point; what was written stays readable if it fails.</summary>
    /// <param name="machine">The machine whose point it is.</param>
    /// <param name="point">The point.</param>
    /// <param name="writeWrongly">Planted defect: the last byte of every chunk is written wrongly.</param>
    public async Task<RestoreOutcome> RestoreAsync(FakeHypervisor machine, Id16 point, bool writeWrongly = false)
    {
        var life = Life;
        var ordered = (await _site.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = point.ToString(), Agent = Name }, CancellationToken.None)).Job;
        var job = Assignments().Single(job => job.JobId == ordered.JobId);
        var target = new RestoreTarget(machine, writeWrongly);
        FaultException? failure = null;
        try
        {
            var run = new RestoreRun(
                life.Context, [target], job.JobId, job.Attempt, machine.Machine, point, new RestoreOptions { Folder = "/restored" }, new RunProgress());
            var result = await run.RunAsync(life.Over);
            await ReportAsync(ReportOf(job, report => report.Restore = result), life);
        }
        catch (FaultException fault)
        {
            failure = fault;
            await ReportAsync(ReportOf(job, report => (report.State, report.FailureMessage) = (JobState.Failed, fault.Message)), life);
        }
        return new RestoreOutcome(failure, target.Writes);
    }

    public void Dispose()
    {
        Life.Dispose();
        _signer.Dispose();
        _tlsKey.Dispose();
    }

    private Google.Protobuf.Collections.RepeatedField<Protocol.Agent.V1.Job> Assignments() => _site.Role.Jobs.GetAssignments(Name).Jobs;

    private static JobReport ReportOf(Protocol.Agent.V1.Job job, Action<JobReport> more)
    {
        var report = new JobReport { JobId = job.JobId, Attempt = job.Attempt, State = JobState.Succeeded };
        more(report);
        return report;
    }

    /// <summary>Tells the controller, now or when it is there again. The dead tell nothing.</summary>
    private async Task ReportAsync(JobReport? report, AgentLife? life = null)
    {
        if (life is { IsOver: true })
        {
            return;
        }
        if (report is not null)
        {
            _unheard.Enqueue(report);
        }
        while (_unheard.TryPeek(out var next) && _site.Connect() is var (role, power))
        {
            try
            {
                await role.Jobs.ReportAsync(Caller, next, CancellationToken.None).AsTask().WaitAsync(power.Off);
            }
            catch (Exception) when (power.IsOff)
            {
                return;
            }
            catch (FaultException)
            {
                // The controller knows better: the job is over, or was lost with its catalog.
            }
            if (_unheard.TryPeek(out var first) && ReferenceEquals(first, next))
            {
                _unheard.Dequeue();
            }
        }
    }

    private AgentLife Begin()
    {
        var cable = new Cable(_options.Weather, _time);
        var tools = new CaptureTools(_time, _entropy, 1) { Shape = _options.Shape, Audit = _options.Audit };
        var transport = new StoreTransport(_site, this, cable, Acknowledged, _options.AcknowledgeEarly);
        var life = new AgentLife(
            cable, new BackupContext(Name, transport, _bases, new VmKeyRing(_time, _entropy), _signer, KeyId.Compute(_signer.ExportSubjectPublicKeyInfo()), tools));
        cable.Died = life.End;
        return life;
    }

    /// <summary>The same key for the same seed, so that objects that its id names are listed in the same order.</summary>
    private ECDsa CreateKey()
    {
        var scalar = new byte[32];
        _entropy.Fill(scalar);
        // Below the order of the group.
        scalar[0] &= 0x7f;
        return ECDsa.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP256, D = scalar });
    }

    /// <summary>Connects as a new process, tells which machines there are, and leaves.</summary>
    private async Task ConnectAsync()
    {
        var inventory = new Inventory { HypervisorKind = "fake", HostName = Name };
        foreach (var machine in Machines)
        {
            var described = new Protocol.Agent.V1.VirtualMachine { VmId = machine.Machine.ToString(), Name = $"vm-{machine.Machine}", Running = true };
            described.Disks.Add(machine.Disks.Select(disk => new VirtualDisk
            {
                DiskId = disk.Summary.Id.ToString(), Name = disk.Summary.Name, LengthBytes = (ulong)disk.Content.Length, Format = "raw",
            }));
            inventory.VirtualMachines.Add(described);
        }
        var control = new ControlPipe();
        control.Say(new ConnectRequest { Hello = new AgentHello { Version = "1", BootId = Id16.Create(_entropy).ToString() } });
        control.Say(new ConnectRequest { Inventory = inventory });
        control.Say(new ConnectRequest { Goodbye = new Goodbye() });
        await _site.Role.Agents.ConnectAsync(Caller, control, CancellationToken.None);
        IsConnected = true;
    }

    private sealed class ControlPipe : IServerDuplex<ConnectRequest, ConnectResponse>
    {
        private readonly Channel<ConnectRequest> _up = Channel.CreateUnbounded<ConnectRequest>();

        public void Say(ConnectRequest message) => _up.Writer.TryWrite(message);

        public IAsyncEnumerable<ConnectRequest> ReceiveAsync(CancellationToken cancellationToken) => _up.Reader.ReadAllAsync(cancellationToken);

        public ValueTask SendAsync(ConnectResponse message, CancellationToken cancellationToken) => ValueTask.CompletedTask;
    }

    private sealed class MemoryBases : IBaseStore
    {
        private readonly Dictionary<Id16, IReadOnlyList<BaseRecord>> _records = [];

        public ValueTask<IReadOnlyList<BaseRecord>> LoadAsync(Id16 machine, CancellationToken cancellationToken) => new(_records.GetValueOrDefault(machine) ?? []);

        public ValueTask SaveAsync(Id16 machine, IReadOnlyList<BaseRecord> records, CancellationToken cancellationToken)
        {
            cancellationToken.ThrowIfCancellationRequested();
            _records[machine] = records;
            return ValueTask.CompletedTask;
        }
    }
}
