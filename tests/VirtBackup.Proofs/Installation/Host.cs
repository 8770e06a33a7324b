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
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Proofs.Installation;

/// <summary>A host with the real agent's runs, machines in memory, and what they looked like at every point.</summary>
internal sealed class Host : IDisposable
{
    private const string Name = "host-1";

    private readonly Site _site;
    private readonly IEntropy _entropy;
    private readonly TimeProvider _time;
    private readonly ECDsa _signer = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly ECDsa _tlsKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly MemoryBases _bases = new();
    private readonly IStoreTransport _transport;
    private BackupContext _context = null!;

    public Host(Site site, IEntropy entropy, TimeProvider time, bool acknowledgeEarly = false)
    {
        (_site, _entropy, _time) = (site, entropy, time);
        _transport = new StoreTransport(site, this, Acknowledged, acknowledgeEarly);
        Start();
    }

    public Acknowledged Acknowledged { get; } = new();

    public Caller Caller { get; private set; } = null!;

    public List<FakeHypervisor> Machines { get; } = [];

    /// <summary>Every point that a run was begun for: the bytes of the machine's disks at that moment.</summary>
    public Dictionary<Id16, (Id16 Machine, IReadOnlyDictionary<Id16, byte[]> Disks)> Sources { get; } = [];

    public FakeHypervisor AddMachine(params byte[][] disks)
    {
        var machine = new FakeHypervisor(Id16.Create(_entropy), [.. disks.Select((content, i) => new FakeDisk(Id16.Create(_entropy), $"disk{i}", content))]);
        Machines.Add(machine);
        return machine;
    }

    /// <summary>The agent's process begins anew: it knows what it has saved.</summary>
    public async Task RestartAsync(bool enroll)
    {
        Start();
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
    public async Task<Id16> BackUpAsync(FakeHypervisor machine, CancellationToken cancellationToken)
    {
        var job = Assignments().FirstOrDefault(job => job.Backup?.VmId == machine.Machine.ToString());
        if (job is null)
        {
            var ordered = (await _site.Role.Admin.StartBackupAsync(new StartBackupRequest { Vm = machine.Machine.ToString() }, CancellationToken.None)).Job;
            job = Assignments().Single(job => job.JobId == ordered.JobId);
        }
        await ReportAsync(job, report => report.State = JobState.Running);
        var point = Id16.Parse(job.Backup.PointId);
        Sources[point] = (machine.Machine, machine.Disks.ToDictionary(disk => disk.Summary.Id, disk => disk.Content.ToArray()));
        var result = await new BackupRun(_context, machine, job, machine.Machine, point, new RunProgress()).RunAsync(cancellationToken);
        if (_site.Connect() is not null)
        {
            await ReportAsync(job, report => report.Backup = result);
        }
        return point;
    }

    /// <summary>Restores a point; what was written stays readable if it fails.</summary>
    /// <param name="machine">The machine whose point it is.</param>
    /// <param name="point">The point.</param>
    /// <param name="writeWrongly">Planted defect: the last byte of every chunk is written wrongly.</param>
    public async Task<RestoreOutcome> RestoreAsync(FakeHypervisor machine, Id16 point, bool writeWrongly = false)
    {
        var ordered = (await _site.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = point.ToString(), Agent = Name }, CancellationToken.None)).Job;
        var job = Assignments().Single(job => job.JobId == ordered.JobId);
        var target = new RestoreTarget(machine, writeWrongly);
        FaultException? failure = null;
        try
        {
            var run = new RestoreRun(
                _context, [target], job.JobId, job.Attempt, machine.Machine, point, new RestoreOptions { Folder = "/restored" }, new RunProgress());
            var result = await run.RunAsync(CancellationToken.None);
            await ReportAsync(job, report => report.Restore = result);
        }
        catch (FaultException fault)
        {
            failure = fault;
            await ReportAsync(job, report => (report.State, report.FailureMessage) = (JobState.Failed, fault.Message));
        }
        return new RestoreOutcome(failure, target.Writes);
    }

    public void Dispose()
    {
        _context.VmKeys.Dispose();
        _signer.Dispose();
        _tlsKey.Dispose();
    }

    private Google.Protobuf.Collections.RepeatedField<Protocol.Agent.V1.Job> Assignments() => _site.Role.Jobs.GetAssignments(Name).Jobs;

    private async Task ReportAsync(Protocol.Agent.V1.Job job, Action<JobReport> more)
    {
        var report = new JobReport { JobId = job.JobId, Attempt = job.Attempt, State = JobState.Succeeded };
        more(report);
        await _site.Role.Jobs.ReportAsync(Caller, report, CancellationToken.None);
    }

    private void Start() => _context = new BackupContext(
        Name, _transport, _bases, new VmKeyRing(_time, _entropy), _signer, KeyId.Compute(_signer.ExportSubjectPublicKeyInfo()), new CaptureTools(_time, _entropy, 1));

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
